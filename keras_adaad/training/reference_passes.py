"""Runs the student as published code does, where it differs from the paper."""

from typing import Any

from keras import ops

from keras_adaad.attacks import PGD
from keras_adaad.frozen.float16 import uses_float16
from keras_adaad.frozen.float16 import with_scaled_gradient
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.training.distiller import Distiller


class ReferencePasses(Distiller):
    """Base class of methods whose reference code runs the student more often.

    Every run in training mode updates the BatchNorm statistics, which affect
    the student's logits in inference mode. This includes runs within the attack
    and runs whose logits are not used. `reference_passes=True` performs all
    runs of the reference code.

    A subclass sets `reference_order`, the `forward_order` of its reference
    code, and `attacks_in_training_mode`, which says whether that code attacks
    the cross-entropy of the student in training mode.
    """

    reference_order: tuple[str, ...] = ("adversarial", "clean")
    attacks_in_training_mode = True

    def __init__(
        self, teacher, student, attack=None, *, reference_passes=False, **kwargs
    ):
        order = self.reference_order if reference_passes else None
        super().__init__(
            teacher, student, attack, forward_order=order, **kwargs
        )
        self.reference_passes = bool(reference_passes)
        if self._in_training_mode():
            _check_attack(self.attack)

    def _in_training_mode(self):
        return self.reference_passes and self.attacks_in_training_mode

    def _maximize(self, x, y, noise=None):
        if not self._in_training_mode():
            return super()._maximize(x, y, noise)
        return self._maximize_in_training_mode(x, y, noise)[0]

    def _attack_in_training(self, x, y):
        if not self._in_training_mode():
            return super()._attack_in_training(x, y)
        x_adv, state = self._maximize_in_training_mode(x, y)
        for variable, value in zip(
            self.student.non_trainable_variables, state, strict=True
        ):
            variable.assign(value)
        return x_adv

    def _maximize_in_training_mode(self, x, y, noise=None):
        """Returns x*, and the student's state after all of its runs."""
        student = self.student
        weights = [v.value for v in student.trainable_variables]

        def objective(x_adv, state):
            moved: list[Any] = []

            def run(x):
                logits, after = student.stateless_call(
                    weights, state, x, training=True
                )
                moved.extend(ops.stop_gradient(value) for value in after)
                return logits

            if uses_float16(student):
                logits = with_scaled_gradient(run, x_adv, training=True)
            else:
                logits = ops.cast(run(x_adv), "float32")
            return cross_entropy_from_logits(y, logits), moved

        return self.attack._maximize_with_state(
            objective,
            x,
            [ops.copy(v.value) for v in student.non_trainable_variables],
            noise=noise,
            seed=self.seed_generator,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "reference_passes": self.reference_passes,
        }


def _check_attack(attack):
    if type(attack) is not PGD or attack.restarts > 1:
        raise ValueError(
            "With `reference_passes=True` the student is attacked in training "
            "mode, which `attack` must allow: a `keras_adaad.attacks.PGD` with "
            f"`restarts=1`. Received: attack={attack!r}"
        )
