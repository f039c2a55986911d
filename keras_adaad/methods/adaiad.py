"""AdaIAD: AdaAD with introspection (Huang et al., CVPR 2023)."""

from typing import Any

import keras

from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.logits import logits_function
from keras_adaad.methods import objectives
from keras_adaad.methods.adaad import AdaAD
from keras_adaad.methods.iad import IAD


@keras.saving.register_keras_serializable(package="keras_adaad")
class AdaIAD(IAD):
    """Adaptive adversarial distillation with introspection.

    The attack is that of AdaAD, which searches for the point where student and
    teacher differ most. The loss is that of IAD, with the teacher evaluated at
    x*. The temperature `t` divides the logits within `KL_t`:

        x*   = argmax_{||x' - x|| <= epsilon}  KL(T(x') || S(x'))
        w    = P_T(y | x*)^beta, or 1 before `begin_epoch`
        loss = alpha [ t^2 KL_t(T(x*) || S(x*)) + (1 - w) KL(S(x) || S(x*)) ]
               + (1 - alpha) CE(S(x), y)

    The gradient of the attack flows through both networks. The teacher's term
    has no weight `w`, and the target `S(x)` is not detached, as in the
    reference code. The student runs on the clean images, on x*, and on the
    clean images again, all in training mode. All runs update its BatchNorm
    statistics. From `begin_epoch` on, the reference code runs it on the clean
    images once more; `reference_passes=True` does the same.

    Args:
        teacher, student, attack, temperature, **kwargs: See
            `keras_adaad.IAD`. `attack` defaults to that of
            `keras_adaad.AdaAD`, and `temperature` to `30.0`, as in the
            reference code.

    Example:

    ```python
    distiller = keras_adaad.AdaIAD(teacher, student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, y_train, epochs=200)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Huang et al., "Boosting Accuracy and Robustness of Student Models via
          Adaptive Adversarial Distillation", CVPR 2023.
        - [Reference code](https://github.com/boyellow/AdaAD), method
          `AdaAD_with_IAD1` in `main.py`.
    """

    teacher_sees_adversarial = True
    forward_order: tuple[str, ...] = ("clean", "adversarial", "clean")
    reference_order: tuple[str, ...] = (
        "clean",
        "adversarial",
        "clean",
        "introspection",
    )
    attacks_in_training_mode = False

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        temperature: float = 30.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            teacher, student, attack, temperature=temperature, **kwargs
        )

    @classmethod
    def published_attack(
        cls, input_range: tuple[float, float]
    ) -> ObjectiveAttack:
        return AdaAD.published_attack(input_range)

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        return objectives.disagreement(
            logits_function(self.teacher), logits_function(self.student)
        )

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        target = self.teacher_logits(views["adversarial"])
        return self._introspective_loss(target, target, logits, y)
