"""What a compiled step takes as constants, and a user may set anew."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.training import attack_arguments
from keras_adaad.training.state import TrainingState


class Settings(TrainingState):
    """A model whose attacks and numbers may change, also during `fit`."""

    _attack: ObjectiveAttack
    # Whether the attack moves away from the student's own outputs, which have
    # no gradient at the image itself.
    leaves_own_outputs = False
    # The method's, of the given range.
    published_attack: Callable[[tuple[float, float]], ObjectiveAttack]
    # Those that the compiled functions use.
    _compiled_settings: tuple[Any, ...] | None = None

    @property
    def attack(self) -> ObjectiveAttack:
        """The inner maximisation. Another one must have the same range."""
        return self._attack

    @attack.setter
    def attack(self, attack: ObjectiveAttack | None) -> None:
        self._set_attack(attack, self.input_range)

    def _set_attack(self, attack, input_range):
        self._attack = attack_arguments.training_attack(
            attack, input_range, self.published_attack
        )

    @property
    def input_range(self) -> tuple[float, float]:
        """The smallest and the largest pixel value, those of the attack."""
        return self._attack.input_range

    @property
    def evaluation_attack(self) -> ObjectiveAttack | None:
        """The attack behind `robust_accuracy`, or `None`.

        The default one has the radius of `attack`, also of one set later.
        """
        if self._followed not in (None, self.attack):
            self._set_evaluation_attack("pgd-10")
        return self._evaluation_attack

    @evaluation_attack.setter
    def evaluation_attack(self, attack: str | ObjectiveAttack | None) -> None:
        self._set_evaluation_attack(attack)

    def _set_evaluation_attack(self, attack):
        found = attack_arguments.evaluation_attack(
            attack, self.attack, self.input_range
        )
        self._followed, self._evaluation_attack = found

    def _check_can_train(self):
        """Raises if the steps could not move what they are for."""
        for network in self.trained_networks():
            if network.weights and not network.trainable_weights:
                raise ValueError(
                    f"The network {network.name!r} can't be trained: all of it "
                    "is frozen, perhaps because it, or the network that it was "
                    "cloned from, was a teacher. Set `trainable = True`. "
                    f"Received: trainable={network.trainable}"
                )
        self._check_start()

    def _check_start(self):
        """Raises if the attack can't leave the image."""
        if self.leaves_own_outputs:
            name = f"The attack of {type(self).__name__}"
            attack_arguments.check_start(name, self.attack)

    def _take_settings(self):
        """Has `fit` go on with the attacks and numbers a callback has set."""
        settings = self._settings()
        if settings != self._compiled_settings:
            self._check_start()
            self.test_function = None
            self._compiled_perturb = (None, None)
            self.make_train_function(force=True)
            self._compiled_settings = settings

    def _settings(self):
        """Returns what a compiled function takes as constant: all arguments."""
        cls: Any = type(self)
        numbers = plain_values(self, constructor_arguments(cls))
        return self.attack, self.evaluation_attack, *numbers


def plain_values(instance, names=None):
    """Returns the numbers, texts and tuples of an object, with their names.

    If `names` are given, only those.
    """
    values = (
        (name, _plain(value))
        for name, value in sorted(vars(instance).items())
        if names is None or name in names
    )
    return tuple((name, value) for name, value in values if value is not None)


def _plain(value):
    """Returns a value to compare, or `None` for objects of other types."""
    if isinstance(value, (np.generic, np.ndarray)) or ops.is_tensor(value):
        return ops.convert_to_numpy(value).tolist()
    plain = isinstance(value, (bool, int, float, str, tuple))
    return value if plain else None


@functools.cache
def constructor_arguments(cls: Any) -> frozenset[str]:
    """Returns the names of the constructor's arguments, in all base classes."""
    constructors = [vars(base).get("__init__") for base in cls.__mro__]
    return frozenset(
        name
        for constructor in constructors
        if inspect.isfunction(constructor)
        for name in inspect.signature(constructor).parameters
    )
