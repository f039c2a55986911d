"""ABSLD: anti-bias soft label distillation (Zhao et al., NeurIPS 2024)."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import Labels
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.methods import by_class
from keras_adaad.methods.drops import check_drops
from keras_adaad.methods.drops import dropped
from keras_adaad.methods.rslad import RSLAD


@keras.saving.register_keras_serializable(package="keras_adaad")
class ABSLD(by_class.SumsOfEpochs, RSLAD):
    """Anti-bias soft label distillation, for robust fairness.

    A robust student is far less accurate on some classes than on others. The
    attack and the loss are those of RSLAD, but the teacher's soft label has a
    temperature for the class of the image: sharper where the student errs more,
    softer where it errs less.

        T_y  = T(x) / (t_a[y] t_c[y])
        x*   = argmax_{||x' - x|| <= epsilon}  KL(T_y || S(x'))
        loss = alpha KL(T_y || S(x*)) + (1 - alpha) KL(T_y || S(x))

    The temperatures `t_a` and `t_c` start at 1. Let `L_c` be the sum, over the
    images of class `c`, of the student's cross-entropy in the previous epoch:
    on x* for `t_a`, on the clean images for `t_c`. Before each epoch, the
    temperature of a class falls if its `L_c` is above the mean, and rises if it
    is below:

        g_c  = L_c - mean L
        t_c <- clip(t_c - temperature_rate g_c / max |g|, min_temperature,
                    max_temperature)

    They are the variables `adversarial_temperatures` and `clean_temperatures`.
    `adversarial_sums` and `clean_sums` collect the cross-entropies, and
    `summed_epoch` is the epoch of these sums. All are saved. The sums are not
    divided by the number of images, so a class with more images counts as one
    with more errors.

    The reference code means to divide the teacher's logits by `t_a` for the
    attack and for x*, and by `t_c` for the clean images. Its two variables
    refer to the same memory, so it divides by both temperatures in both cases.
    This class does the same.

    As in the reference code, the student runs on x* first, then on the clean
    images, both in training mode. Both runs update its BatchNorm statistics.

    Args:
        teacher, student, attack, **kwargs: See `keras_adaad.RSLAD`, which also
            has `alpha`, `reduction` and `scale`.
        temperature_rate: Largest change of a temperature between two epochs.
            Defaults to `0.1`.
        min_temperature: Smallest temperature. Defaults to `0.5`.
        max_temperature: Largest temperature. Defaults to `5.0`.
        drops: Fractions of the epochs after which `temperature_rate` is divided
            by 10. Defaults to those of the reference code, where the learning
            rate drops too: after 215, 260 and 285 of 300 epochs.

    Example:

    ```python
    distiller = keras_adaad.ABSLD(teacher, student)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, metrics=["accuracy"])
    distiller.fit(x_train, y_train, epochs=300)
    distiller.student.save("student.keras")
    ```

    Reference:
        - Zhao et al., "Improving Adversarial Robust Fairness via Anti-Bias Soft
          Label Distillation", [2023](https://arxiv.org/abs/2312.05508).
        - [Reference code](https://github.com/zhaoshiji123/ABSLD),
          `resnet18_absld_cifar10.py` and `absld_loss.py`.
    """

    needs_labels = True

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        attack: ObjectiveAttack | None = None,
        *,
        temperature_rate: float = 0.1,
        min_temperature: float = 0.5,
        max_temperature: float = 5.0,
        drops: Sequence[float] = (215 / 300, 260 / 300, 285 / 300),
        **kwargs: Any,
    ) -> None:
        temperature_rate = checks.check_number(
            "temperature_rate", temperature_rate
        )
        min_temperature = checks.check_number(
            "min_temperature", min_temperature, maximum=1.0, open_minimum=True
        )
        max_temperature = checks.check_number(
            "max_temperature", max_temperature, minimum=1.0
        )
        drops = check_drops(drops)
        super().__init__(teacher, student, attack, **kwargs)
        self.temperature_rate = temperature_rate
        self.min_temperature = min_temperature
        self.max_temperature = max_temperature
        self.drops = drops

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        ones, zeros = np.ones(self.num_classes), np.zeros(self.num_classes)
        self.add_states(
            {
                "adversarial_temperatures": ones,
                "clean_temperatures": ones,
                "adversarial_sums": zeros,
                "clean_sums": zeros,
            }
        )

    def target(self, x: Tensor, y: Labels) -> Tensor:
        logits = super().target(x, y)
        adversarial, clean = self._temperatures()
        of_label = by_class.of_label(adversarial * clean, y, logits)
        return logits / ops.expand_dims(of_label, -1)

    def outer_loss(self, views: Tensors, logits: Tensors, y: Labels) -> Tensor:
        loss = super().outer_loss(views, logits, y)
        if self.learning:
            self._collect(logits, y)
        return loss

    def _temperatures(self):
        """Returns both temperatures of each class, in the current epoch."""
        rate = dropped(
            self.temperature_rate, self.drops, self.epoch, self.epochs
        )

        def moved(temperatures, sums):
            gap = sums - ops.mean(sums)
            step = ops.divide_no_nan(rate * gap, ops.max(ops.abs(gap)))
            moved = ops.clip(
                temperatures - step, self.min_temperature, self.max_temperature
            )
            return ops.where(self.follows_epoch(), moved, temperatures.value)

        return (
            moved(self.adversarial_temperatures, self.adversarial_sums),
            moved(self.clean_temperatures, self.clean_sums),
        )

    def _collect(self, logits, y):
        def added(sums, view):
            losses = cross_entropy_from_logits(y, logits[view])
            batch = by_class.summed(losses, y, logits[view])
            before = ops.where(self.begins_epoch(), 0.0, sums.value)
            return before + ops.stop_gradient(batch)

        adversarial, clean = self._temperatures()
        adversarial_sums = added(self.adversarial_sums, "adversarial")
        clean_sums = added(self.clean_sums, "clean")
        self.adversarial_temperatures.assign(adversarial)
        self.clean_temperatures.assign(clean)
        self.adversarial_sums.assign(adversarial_sums)
        self.clean_sums.assign(clean_sums)
        self.summed_epoch.assign(self.epoch)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "temperature_rate": self.temperature_rate,
            "min_temperature": self.min_temperature,
            "max_temperature": self.max_temperature,
            "drops": list(self.drops),
        }
