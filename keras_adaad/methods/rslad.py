"""RSLAD: robust soft label adversarial distillation (Zi et al., ICCV 2021)."""

from typing import Any

import keras

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.losses.reduction import check_reduction
from keras_adaad.losses.reduction import over_classes
from keras_adaad.methods import objectives
from keras_adaad.training.distiller import Distiller


@keras.saving.register_keras_serializable(package="keras_adaad")
class RSLAD(Distiller):
    """Robust soft label adversarial distillation.

    The teacher's soft label of the clean image, `T(x)`, is the target of the
    attack, and of the student on both images:

        x*   = argmax_{||x' - x|| <= epsilon}  KL(T(x) || S(x'))
        loss = alpha KL(T(x) || S(x*)) + (1 - alpha) KL(T(x) || S(x))

    Labels are not used, so `fit(x)` works on images alone. As in the reference
    code, the student runs on x* first, then on the clean images, both in
    training mode. Both runs update its BatchNorm statistics.

    The divergence is exact. The reference code adds 1e-5 to the teacher's
    probability within its logarithm, which shifts the loss by a constant and
    does not change the gradient.

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.Distiller`.
        alpha: Weight of the adversarial term, in [0, 1]. Defaults to `5 / 6`.
        reduction: `"batchmean"` divides the loss by the batch size, `"mean"`
            by the batch size and the number of classes.
            Defaults to `"batchmean"`.
        scale: Factor of the loss. The reference code uses `"mean"` with scale 1
            on CIFAR-10 and 10 on CIFAR-100. Both are a tenth of the loss with
            `"batchmean"` and scale 1. Defaults to `1.0`.

    Example:

    ```python
    distiller = keras_adaad.RSLAD(teacher, student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, validation_data=(x_test, y_test), epochs=300)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Zi et al., "Revisiting Adversarial Robustness Distillation: Robust
          Soft Labels Make Student Better",
          [2021](https://arxiv.org/abs/2108.07969).
        - [Reference code](https://github.com/zibojia/RSLAD), `rslad_loss.py`.
    """

    forward_order: tuple[str, ...] = ("adversarial", "clean")

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        alpha: float = 5 / 6,
        reduction: str = "batchmean",
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        alpha = checks.check_number("alpha", alpha, maximum=1.0)
        check_reduction(reduction)
        scale = checks.check_number("scale", scale, open_minimum=True)
        super().__init__(teacher, student, attack, **kwargs)
        self.alpha = alpha
        self.reduction = reduction
        self.scale = scale

    def target(self, x: Tensor, y: Labels) -> Tensor:
        """Returns the logits of the soft label of clean images."""
        return self.teacher_logits(x)

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        target = self.target(x, y)
        student = logits_function(self.student)
        return objectives.divergence_from(target, student)

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        target = self.target(views["clean"], y)
        adversarial = kl_divergence_from_logits(target, logits["adversarial"])
        clean = kl_divergence_from_logits(target, logits["clean"])
        loss = self.alpha * adversarial + (1.0 - self.alpha) * clean
        loss *= self.scale
        return over_classes(loss, self.reduction, self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "reduction": self.reduction,
            "scale": self.scale,
        }
