"""Fewer attack steps early in training, more later."""

import keras

from keras_adaad import checks
from keras_adaad.adversarial_training import AdversarialTraining
from keras_adaad.attacks import PGD


class AttackSteps(keras.callbacks.Callback):
    """Sets the number of PGD's steps in training, epoch by epoch.

    At the beginning of an epoch where the number changes, `model.attack` is
    replaced by the same attack with that number of steps, each of size

        min(1, 2.5 / steps) * epsilon

    which together reach as far as AdaAD's ten steps of `epsilon / 4`. The
    training step is compiled anew then, so change it seldom. The last attack
    stays after the training.

    The number follows from the epoch alone: a killed run that goes on in the
    middle (`keras.callbacks.BackupAndRestore`, `initial_epoch`) has the right
    one. Evaluation is not changed.

    It saves time, but on digits no more than a smaller number throughout does:
    3, 5 and 10 steps for a third of the epochs each were no better than 5 in
    all of them, which take less (`python -m benchmarks.cheaper`). See
    `teacher_in_attack` of `keras_adaad.AdaAD` for what did better.

    Args:
        schedule: Dict of numbers of steps by the epoch from which they hold,
            counted from 0, which must be among them.

    Raises:
        TypeError: If an argument is of the wrong type, or the model is trained
            without PGD.
        ValueError: If the schedule has no number for epoch 0.

    Example:

    ```python
    fewer_steps = keras_adaad.callbacks.AttackSteps({0: 3, 70: 5, 140: 10})
    distiller.fit(train_ds, epochs=200, callbacks=[fewer_steps])
    ```
    """

    def __init__(self, schedule):
        super().__init__()
        if not isinstance(schedule, dict):
            raise TypeError(
                "Argument `schedule` must be a dict of steps by epoch, e.g. "
                f"`{{0: 3, 100: 10}}`. Received: schedule={schedule!r}"
            )
        self.schedule = {
            checks.check_integer("schedule", epoch, 0): checks.check_integer(
                f"schedule[{epoch}]", steps
            )
            for epoch, steps in schedule.items()
        }
        if 0 not in self.schedule:
            raise ValueError(
                "Argument `schedule` must say how many steps there are from "
                "epoch 0 on, e.g. `{0: 3, 100: 10}`. "
                f"Received: schedule={schedule!r}"
            )

    def on_train_begin(self, logs=None):
        model = self.model
        if (
            not isinstance(model, AdversarialTraining)
            or type(model.attack) is not PGD
        ):
            raise TypeError(
                "`AttackSteps` needs a method of `keras_adaad` whose attack is "
                "`keras_adaad.attacks.PGD`. "
                f"Received: {getattr(model, 'attack', model)!r}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        attack = self.model.attack
        steps = self.schedule[max(e for e in self.schedule if e <= epoch)]
        changed = {
            "steps": steps,
            "step_size": min(1.0, 2.5 / steps) * attack.epsilon,
        }
        config = attack.get_config()
        if config != {**config, **changed}:
            self.model.attack = PGD.from_config({**config, **changed})
            self.model.make_train_function(force=True)
