"""Rates that fall to a tenth where the learning rate does."""

from keras import ops

from keras_adaad import checks


def check_drops(drops):
    """Returns the argument `drops` as a tuple, or raises."""
    return tuple(
        checks.check_number(f"drops[{i}]", drop, maximum=1.0)
        for i, drop in enumerate(drops)
    )


def dropped(rate, drops, epoch, epochs):
    """Returns `rate` after the drops up to `epoch`, counted from 0.

    `drops` are fractions of the epochs, rounded up to whole epochs as in
    `Recipe.with_epochs`.
    """
    # Less a part of an epoch, for 215 / 300 * 300 is more than 215.
    passed = [epoch >= drop * epochs - 1e-3 for drop in drops]
    for has_passed in passed:
        rate = ops.where(has_passed, 0.1 * rate, rate)
    return rate
