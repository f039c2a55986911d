"""DGAD: dynamic guidance adversarial distillation (Park & Min, ECCV 2024)."""

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
from keras_adaad.losses import label_indices
from keras_adaad.losses import label_mask
from keras_adaad.methods import objectives
from keras_adaad.training.distiller import Distiller


@keras.saving.register_keras_serializable(package="keras_adaad")
class DGAD(Distiller):
    """Dynamic guidance adversarial distillation.

    The attack is AdaAD's. If the teacher errs on the clean image, the student
    learns from that image, otherwise from x*. A consistency term pulls its
    predictions on the two together:

        x*   = argmax_{||x' - x|| <= epsilon}  KL(T(x') || S(x'))
        loss = KL(T~(x) || S(x)) if T errs on x, else
               KL(T~(x*) || S(x*));
             + consistency mean_c (softmax S(x*) - softmax S(x))^2

    `T~` is `T` with its errors corrected: if the largest logit, on x or on x*,
    is not that of the true class, the two logits are swapped.

    The student runs on the clean images first, then on x*, both in training
    mode. Both runs update its BatchNorm statistics.

    All samples have the same weight. The reference code takes the mean over
    each of the two groups and weights it by the group's share of the nominal
    batch size, which differs only for a smaller last batch. For MobileNetV2
    only, a misplaced parenthesis in that code multiplies the two means instead
    of adding them. This is not reproduced.

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.Distiller`.
        consistency: Weight of the consistency term. Defaults to `1.0`.

    Example:

    ```python
    distiller = keras_adaad.DGAD(teacher, student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, y_train, epochs=200)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Park and Min, "Dynamic Guidance Adversarial Distillation with
          Enhanced Teacher Knowledge", [2024](https://arxiv.org/abs/2409.01627).
        - [Reference code](https://github.com/kunsaram01/DGAD), `main.py`.
    """

    # Not `teacher_sees_adversarial`: where the teacher errs, it is corrected.
    needs_labels = True

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        consistency: float = 1.0,
        **kwargs: Any,
    ) -> None:
        consistency = checks.check_number("consistency", consistency)
        super().__init__(teacher, student, attack, **kwargs)
        self.consistency = consistency

    def inner_objective(self, x: Tensor, y: Labels) -> Objective:
        return objectives.disagreement(
            logits_function(self.teacher), logits_function(self.student)
        )

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        def divergence(view):
            target, errs = _corrected(self.teacher_logits(views[view]), y)
            return kl_divergence_from_logits(target, logits[view]), errs

        clean, errs = divergence("clean")
        adversarial, _ = divergence("adversarial")
        difference = ops.softmax(logits["adversarial"]) - ops.softmax(
            logits["clean"]
        )
        return ops.where(errs, clean, adversarial) + (
            self.consistency * ops.mean(ops.square(difference), axis=-1)
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "consistency": self.consistency}


def _corrected(logits, y):
    """Swaps the largest logit with that of the true class where they differ.

    Returns:
        The logits, and one bool per sample: whether they differed.
    """
    num_classes = logits.shape[-1]
    label = label_indices(y, logits)
    predicted = ops.cast(ops.argmax(logits, axis=-1), "int32")
    is_label = label_mask(y, logits)
    is_predicted = ops.one_hot(predicted, num_classes, dtype="bool")
    largest = ops.max(logits, axis=-1, keepdims=True)
    of_label = ops.sum(ops.where(is_label, logits, 0.0), axis=-1, keepdims=True)
    swapped = ops.where(is_predicted, of_label, logits)
    return ops.where(is_label, largest, swapped), predicted != label
