"""AdaAD: adaptive adversarial distillation (Huang et al., CVPR 2023)."""

from typing import Any

import keras

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.linear_teacher import linear_teacher
from keras_adaad.frozen.linear_teacher import log_odds_of_first_class
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.losses.reduction import check_reduction
from keras_adaad.losses.reduction import over_classes
from keras_adaad.methods import objectives
from keras_adaad.training.distiller import Distiller


@keras.saving.register_keras_serializable(package="keras_adaad")
class AdaAD(Distiller):
    """Adaptive adversarial distillation.

    The attack searches for the point where the outputs of student and teacher
    differ most. The loss pulls the student to the teacher at that point:

        x*   = argmax_{||x' - x|| <= epsilon}  KL(T(x') || S(x'))
        loss = alpha KL(T(x*) || S(x*)) + (1 - alpha) KL(T(x) || S(x))

    The gradient of the attack flows through both networks: the target `T(x')`
    changes with `x'`. Labels are not used, so `fit(x)` works on images alone.

    The student runs on the clean images first, then on x*, both in training
    mode, even at `alpha=1`. Both runs update its BatchNorm statistics, as in
    the reference code.

    `teacher_in_attack="linear"` makes the attack cheaper by approximating the
    teacher's logits `T(x')` linearly around the clean image:

        z(x') = T(x) + <grad_x log(p / (1 - p)), x' - x> e

    where `p` is the largest probability of `T(x)` and `e` its class, one-hot.
    The log-odds of that class are linear in `x'`, and the other classes keep
    their proportions. This is exact for two classes and a linear teacher.

    With `n` attack steps and `alpha=1`, a training step then runs 2 forward
    passes and 1 backward pass of the teacher instead of `n + 1` and `n`; the
    student's passes are unchanged. The attack finds different points.
    `docs/methods.md` describes this option, and `python -m benchmarks.cheaper`
    compares it with the exact attack.

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.Distiller`.
        alpha: Weight of the adversarial term, in [0, 1]. Defaults to `1.0`.
        temperature: Divides the logits of both networks in the loss, which is
            then multiplied by `temperature ** 2`, so that its gradient keeps
            its scale. The attack does not use it. Defaults to `1.0`.
        reduction: `"batchmean"` divides the loss by the batch size, `"mean"`
            by the batch size and the number of classes. The reference code
            uses `"mean"` on CIFAR-10 and `"batchmean"` on CIFAR-100. The choice
            changes the strength of the loss relative to weight decay.
            Defaults to `"batchmean"`.
        teacher_in_attack: `"exact"`, as in the paper, or `"linear"`. The loss
            is the same. Defaults to `"exact"`.

    Example:

    ```python
    distiller = keras_adaad.AdaAD(teacher, student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, validation_data=(x_test, y_test), epochs=200)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Huang et al., "Boosting Accuracy and Robustness of Student Models via
          Adaptive Adversarial Distillation", CVPR 2023, equations 4 to 6.
        - [Reference code](https://github.com/boyellow/AdaAD), `AT_helper.py`.
    """

    teacher_sees_adversarial = True

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        alpha: float = 1.0,
        temperature: float = 1.0,
        reduction: str = "batchmean",
        teacher_in_attack: str = "exact",
        **kwargs: Any,
    ) -> None:
        alpha = checks.check_number("alpha", alpha, maximum=1.0)
        temperature = checks.check_number(
            "temperature", temperature, open_minimum=True
        )
        check_reduction(reduction)
        checks.check_choice(
            "teacher_in_attack", teacher_in_attack, ("exact", "linear")
        )
        super().__init__(teacher, student, attack, **kwargs)
        self.alpha = alpha
        self.temperature = temperature
        self.reduction = reduction
        self.teacher_in_attack = teacher_in_attack

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        teacher = logits_function(self.teacher)
        if self.teacher_in_attack == "linear":
            teacher = linear_teacher(teacher, x, log_odds_of_first_class)
        student = logits_function(self.student)
        return objectives.disagreement(teacher, student)

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        def divergence(view):
            return kl_divergence_from_logits(
                self.teacher_logits(views[view]),
                logits[view],
                self.temperature,
            )

        loss = self.alpha * divergence("adversarial")
        if self.alpha < 1.0:
            loss += (1.0 - self.alpha) * divergence("clean")
        loss *= self.temperature**2
        return over_classes(loss, self.reduction, self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "temperature": self.temperature,
            "reduction": self.reduction,
            "teacher_in_attack": self.teacher_in_attack,
        }
