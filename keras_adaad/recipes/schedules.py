"""Learning rates of a recipe, one for each epoch."""

import dataclasses
import math
from typing import Self

import keras

from keras_adaad import checks


@dataclasses.dataclass(frozen=True)
class Drops:
    """The learning rate falls to a tenth after some epochs.

    Args:
        after: Tuple of numbers of epochs.
    """

    after: tuple[int, ...]

    def __post_init__(self) -> None:
        checks.check_tuple("after", self.after)

    def rates(self, initial: float, epochs: int) -> list[float]:
        """Returns the learning rates.

        Args:
            initial: The learning rate at the start.
            epochs: Number of epochs.

        Returns:
            A list with a number for each epoch.
        """
        return [
            initial / 10 ** sum(epoch >= drop for drop in self.after)
            for epoch in range(epochs)
        ]

    def scaled(self, epochs: int, new_epochs: int) -> Self:
        """Returns the schedule of a training with another number of epochs.

        Args:
            epochs: Number of epochs that this schedule is for.
            new_epochs: The other number of epochs.
        """
        after = [scaled(drop, epochs, new_epochs) for drop in self.after]
        return type(self)(tuple(after))

    def __str__(self) -> str:
        drops = ", ".join(str(drop) for drop in self.after)
        return f"a tenth after {drops}"


@dataclasses.dataclass(frozen=True)
class Cosine:
    """The learning rate falls along half a cosine, epoch by epoch.

    With n epochs the curve has n + 1 points, of which the last one, 0, is left
    out, as in the code of DKL.
    """

    def rates(self, initial: float, epochs: int) -> list[float]:
        """Returns the learning rates; see `Drops.rates`."""
        shares = [epoch / (epochs + 1) for epoch in range(1, epochs + 1)]
        return [initial * _half_cosine(share) for share in shares]

    def scaled(self, epochs: int, new_epochs: int) -> Self:
        """Returns the schedule itself; see `Drops.scaled`."""
        return self

    def __str__(self) -> str:
        return "half a cosine"


@dataclasses.dataclass(frozen=True)
class LateCosine:
    """The learning rate stays for some epochs, and then falls to 0.

    It falls along half a cosine times exp(-0.01 p^2), where p grows from 0 to
    1. It is 0 in the last epoch, as in CIARD's code.

    Args:
        after: The number of epochs after which it falls.
    """

    after: int

    def rates(self, initial: float, epochs: int) -> list[float]:
        """Returns the learning rates; see `Drops.rates`."""
        falling = range(1, epochs - self.after + 1)
        shares = [epoch / len(falling) for epoch in falling]
        return [initial] * self.after + [
            initial * _half_cosine(share) * math.exp(-0.01 * share**2)
            for share in shares
        ]

    def scaled(self, epochs: int, new_epochs: int) -> Self:
        """Returns the schedule of another length; see `Drops.scaled`."""
        return type(self)(scaled(self.after, epochs, new_epochs))

    def __str__(self) -> str:
        return f"half a cosine after {self.after}, times exp(-0.01 p^2)"


Schedule = Drops | Cosine | LateCosine


def scaled(epoch, epochs, new_epochs):
    """Returns where an epoch of a training is in another, rounded up."""
    return -(-epoch * new_epochs // epochs)


def of_steps(rates, steps_per_epoch):
    """Returns what an optimizer takes: the one rate, or a Keras schedule.

    Args:
        rates: The learning rate in each epoch.
        steps_per_epoch: Number of steps in an epoch.
    """
    steps_per_epoch = checks.check_integer("steps_per_epoch", steps_per_epoch)
    changes = [
        epoch
        for epoch in range(1, len(rates))
        if rates[epoch] != rates[epoch - 1]
    ]
    if not changes:
        return rates[0]
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        # Keras changes the rate after the given step, the last of an epoch.
        [epoch * steps_per_epoch - 1 for epoch in changes],
        [rates[0], *(rates[epoch] for epoch in changes)],
    )


def _half_cosine(share):
    """Returns a number that falls from 1 to 0 while `share` grows to 1."""
    return 0.5 + 0.5 * math.cos(math.pi * share)
