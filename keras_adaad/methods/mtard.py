"""MTARD: a robust and a clean teacher (Zhao et al., ECCV 2022)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

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
from keras_adaad.methods.drops import check_drops
from keras_adaad.methods.drops import dropped
from keras_adaad.training.distiller import Distiller


@keras.saving.register_keras_serializable(package="keras_adaad")
class MTARD(Distiller):
    """Multi-teacher adversarial robustness distillation.

    A robust teacher guides the student on adversarial images, and a clean
    teacher on clean images, to reduce the trade-off between the two accuracies:

        x*   = argmax_{||x' - x|| <= epsilon}  CE(S(x'), y)
        L_a  = KL(T(x*) || S(x*)),   L_c = KL(T_clean(x) || S(x))
        loss = (1 - w) L_a + w L_c

    The weight `w` starts at 1/2 and moves towards the loss that has decreased
    less. Each step updates it before computing the loss, from batch means
    divided by those of the first step:

        r_a = L_a / L_a[first step],   r_c = L_c / L_c[first step]
        w  <- w - weight_rate (w - r_c^beta / (r_a^beta + r_c^beta))

    `w` is the variable `clean_weight` of the model. The two divisors are the
    variables `first_adversarial_loss` and `first_clean_loss`, which are 0
    before the first step. All three are saved and restored.

    As in the reference code, the student runs on x* first, then on the clean
    images, both in training mode. Both runs update its BatchNorm statistics.
    The divergences are exact. The reference code adds 1e-5 to the teacher's
    probability within its logarithm, which changes `w` imperceptibly.

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.Distiller`.
        clean_teacher: A naturally trained `keras.Model` that returns logits,
            accurate on clean images. Required.
        weight_rate: Fraction of the distance to its target that `w` moves in
            each step, in [0, 1]. Defaults to `0.025`.
        beta: Exponent of the relative losses. Defaults to `1.0`.
        drops: Fractions of the epochs after which `weight_rate` is divided by
            10. Defaults to those of the reference code, where the learning
            rate drops too: after 215, 260 and 285 of 300 epochs.
        reduction: `"batchmean"` divides the loss by the batch size, `"mean"`
            by the batch size and the number of classes.
            Defaults to `"batchmean"`.
        scale: Factor of the loss. The reference code uses `"mean"` with scale 1
            on CIFAR-10 and 10 on CIFAR-100. Both are a tenth of the loss with
            `"batchmean"` and scale 1. Defaults to `1.0`.

    Example:

    ```python
    distiller = keras_adaad.MTARD(
        robust_teacher, student, clean_teacher=clean_teacher
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, y_train, epochs=300)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Zhao et al., "Enhanced Accuracy and Robustness via Multi-Teacher
          Adversarial Distillation", ECCV 2022.
        - [Reference code](https://github.com/zhaoshiji123/MTARD),
          `mtard_resnet18_cifar10.py` and `mtard_loss.py`.
    """

    teacher_sees_adversarial = True
    forward_order: tuple[str, ...] = ("adversarial", "clean")
    needs_labels = True
    states = {
        "clean_weight": 0.5,
        "first_adversarial_loss": 0.0,
        "first_clean_loss": 0.0,
    }

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        clean_teacher: keras.Model,
        weight_rate: float = 0.025,
        beta: float = 1.0,
        drops: Sequence[float] = (215 / 300, 260 / 300, 285 / 300),
        reduction: str = "batchmean",
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        weight_rate = checks.check_number(
            "weight_rate", weight_rate, maximum=1.0
        )
        beta = checks.check_number("beta", beta)
        drops = check_drops(drops)
        check_reduction(reduction)
        scale = checks.check_number("scale", scale, open_minimum=True)
        super().__init__(
            teacher,
            student,
            attack,
            other_teachers={"clean_teacher": clean_teacher},
            **kwargs,
        )
        self.weight_rate = weight_rate
        self.beta = beta
        self.drops = drops
        self.reduction = reduction
        self.scale = scale

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        return objectives.cross_entropy(logits_function(self.student), y)

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        robust_target, clean_target = self.targets(views)
        adversarial = kl_divergence_from_logits(
            robust_target, logits["adversarial"]
        )
        clean = kl_divergence_from_logits(clean_target, logits["clean"])
        if self.learning:
            self._balance(adversarial, clean)
        weight = self.clean_weight
        loss = self.scale * ((1.0 - weight) * adversarial + weight * clean)
        return over_classes(loss, self.reduction, self.num_classes)

    def targets(self, views: Tensors) -> tuple[Tensor, Tensor]:
        """Returns the logits of `T(x*)` and of `T_clean(x)`."""
        return (
            self.teacher_logits(views["adversarial"]),
            self.teacher_logits(views["clean"], self.clean_teacher),
        )

    def dropped(self, rate: Tensor) -> Tensor:
        """Returns `rate` after the drops up to the current epoch."""
        return dropped(rate, self.drops, self.epoch, self.epochs)

    def _balance(self, adversarial, clean):
        """Moves the weight towards the loss that has decreased less."""

        def relative(losses, first):
            mean = ops.stop_gradient(ops.mean(losses))
            first.assign(ops.where(first > 0.0, first.value, mean))
            return ops.divide_no_nan(mean, first) ** self.beta

        r_a = relative(adversarial, self.first_adversarial_loss)
        r_c = relative(clean, self.first_clean_loss)
        goal = ops.divide_no_nan(r_c, r_a + r_c)
        rate = self.dropped(self.weight_rate)
        self.clean_weight.assign_sub(rate * (self.clean_weight - goal))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weight_rate": self.weight_rate,
            "beta": self.beta,
            "drops": list(self.drops),
            "reduction": self.reduction,
            "scale": self.scale,
        }
