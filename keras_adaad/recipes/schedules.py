"""Learning rates that change between epochs."""

import math

import keras

from keras_adaad import checks


def by_epoch(ends, rates, steps_per_epoch):
    """Returns the one rate, or a schedule that changes it between epochs.

    Args:
        ends: The numbers of epochs after which the rate changes.
        rates: The rates, one more than `ends`.
        steps_per_epoch: Number of steps in an epoch.
    """
    steps_per_epoch = checks.check_integer("steps_per_epoch", steps_per_epoch)
    if not ends:
        return rates[0]
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        # Keras drops the rate after the given step, the last of an epoch.
        [epoch * steps_per_epoch - 1 for epoch in ends],
        rates,
    )


def late_cosine(rate, epochs):
    """Returns the rate, and what it falls to in each of the last epochs.

    It is 0 in the last one, as in CIARD's code.
    """
    shares = [epoch / epochs for epoch in range(1, epochs + 1)]
    return [rate] + [
        rate * (0.5 + 0.5 * math.cos(math.pi * p)) * math.exp(-0.01 * p**2)
        for p in shares
    ]
