"""ARD: adversarially robust distillation (Goldblum et al., AAAI 2020)."""

from typing import Any

import keras

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import PGD
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.losses.reduction import check_reduction
from keras_adaad.losses.reduction import over_classes
from keras_adaad.methods import objectives
from keras_adaad.training.reference_passes import ReferencePasses


@keras.saving.register_keras_serializable(package="keras_adaad")
class ARD(ReferencePasses):
    """Adversarially robust distillation.

    The student is attacked as in adversarial training. On x*, it learns the
    teacher's output for the clean image. The temperature `t` divides the
    logits of both networks within `KL_t`:

        x*   = argmax_{||x' - x|| <= epsilon}  CE(S(x'), y)
        loss = alpha t^2 KL_t(T(x) || S(x*)) + (1 - alpha) CE(S(x), y)

    As in the reference code, the student runs on x* first, then on the clean
    images, both in training mode, even at `alpha=1`. Both runs update its
    BatchNorm statistics. That code also runs the student in training mode
    within the attack, so each attack step updates the statistics;
    `reference_passes=True` does the same. By default the attack uses the
    student in inference mode, as in later implementations of ARD.

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.Distiller`.
            `attack` defaults to the paper's: `PGD` with epsilon 8/255, step
            size 2/255 and 10 steps from a uniform start that is not clipped,
            for inputs in [0, 1].
        alpha: Weight of the distillation, in [0, 1]. The labels have the weight
            `1 - alpha`. Defaults to `1.0`, as in the reference code.
        temperature: Divides the logits of both networks in the loss. Defaults
            to `30.0`, as in the reference code. Later implementations use 1.
        reduction: `"batchmean"` divides the distillation term by the batch
            size, `"mean"` by the batch size and the number of classes, as the
            reference code does. Defaults to `"batchmean"`.
        reference_passes: Whether the attack runs the student in training mode,
            as the reference code does. Defaults to `False`.

    Example:

    ```python
    distiller = keras_adaad.ARD(teacher, student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, y_train, epochs=200)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Goldblum et al., "Adversarially Robust Distillation",
          [2020](https://arxiv.org/abs/1905.09747).
        - [Reference code](
          https://github.com/goldblum/AdversariallyRobustDistillation),
          `main.py`.
    """

    forward_order: tuple[str, ...] = ("adversarial", "clean")
    needs_labels = True

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        alpha: float = 1.0,
        temperature: float = 30.0,
        reduction: str = "batchmean",
        **kwargs: Any,
    ) -> None:
        alpha = checks.check_number("alpha", alpha, maximum=1.0)
        temperature = checks.check_number(
            "temperature", temperature, open_minimum=True
        )
        check_reduction(reduction)
        super().__init__(teacher, student, attack, **kwargs)
        self.alpha = alpha
        self.temperature = temperature
        self.reduction = reduction

    @classmethod
    def published_attack(
        cls, input_range: tuple[float, float]
    ) -> ObjectiveAttack:
        attack = super().published_attack(input_range)
        return PGD(**{**attack.get_config(), "start": "uniform"})

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        return objectives.cross_entropy(logits_function(self.student), y)

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        divergence = self.temperature**2 * kl_divergence_from_logits(
            self.teacher_logits(views["clean"]),
            logits["adversarial"],
            self.temperature,
        )
        divergence = over_classes(divergence, self.reduction, self.num_classes)
        cross_entropy = cross_entropy_from_logits(y, logits["clean"])
        return self.alpha * divergence + (1.0 - self.alpha) * cross_entropy

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "temperature": self.temperature,
            "reduction": self.reduction,
        }
