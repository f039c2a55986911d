"""AKD: adversarial knowledge distillation (Maroto et al., 2022)."""

from typing import Any

import keras
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import PGD
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.methods import objectives
from keras_adaad.training.distiller import Distiller


@keras.saving.register_keras_serializable(package="keras_adaad")
class AKD(Distiller):
    """Adversarial knowledge distillation.

    The student is attacked as in adversarial training. On x*, it learns a
    mixture of the label and of the teacher's output there:

        x*   = argmax_{||x' - x|| <= epsilon}  CE(S(x'), y)
        loss = alpha CE(S(x*), softmax T(x*)) + (1 - alpha) CE(S(x*), y)

    As in the reference code, only the run on x* updates the student's BatchNorm
    statistics. A second run, on the clean images, is for the logged accuracy.

    The reference code averages the probabilities of several teachers. Here, a
    teacher can be a model that does so: see the guide "Several teachers".

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.Distiller`.
            `attack` defaults to that of the reference code: `PGD` with 7 steps
            of a quarter of epsilon from a uniform start that is not clipped.
            Epsilon is 8/255, for inputs in [0, 1]; the code is for signals,
            whose epsilon depends on their energy.
        alpha: Weight of the teacher's output, in [0, 1]. The label has the
            weight `1 - alpha`. The reference code has no default. Defaults to
            `0.5`.

    Example:

    ```python
    distiller = keras_adaad.AKD(teacher, student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, y_train, epochs=100)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Maroto et al., "On the benefits of knowledge distillation for
          adversarial robustness", [2022](https://arxiv.org/abs/2203.07159).
        - [Code of the first author](https://github.com/javier-maroto/kdmc),
          `train/akd.py` and `attack/pgd.py`.
    """

    forward_order: tuple[str, ...] = ("adversarial", "clean")
    needs_labels = True
    teacher_sees_adversarial = True

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        alpha: float = 0.5,
        **kwargs: Any,
    ) -> None:
        alpha = checks.check_number("alpha", alpha, maximum=1.0)
        super().__init__(teacher, student, attack, **kwargs)
        self.alpha = alpha

    @classmethod
    def published_attack(
        cls, input_range: tuple[float, float]
    ) -> ObjectiveAttack:
        attack = super().published_attack(input_range).get_config()
        epsilon = attack["epsilon"]
        own = {"steps": 7, "step_size": epsilon / 4, "start": "uniform"}
        return PGD(**{**attack, **own})

    def moves_statistics(self, view: str) -> bool:
        return view == "adversarial"

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        return objectives.cross_entropy(logits_function(self.student), y)

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        target = ops.softmax(self.teacher_logits(views["adversarial"]))
        student = logits["adversarial"]
        of_teacher = cross_entropy_from_logits(target, student)
        of_label = cross_entropy_from_logits(y, student)
        return self.alpha * of_teacher + (1.0 - self.alpha) * of_label

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}
