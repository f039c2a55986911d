"""Bootstrap resamples of the images, for intervals and orders."""

import numpy as np

RESAMPLES = 2000


def weights(num_images):
    """Returns the weight of each image in each resample.

    An array of shape `(RESAMPLES, num_images)`, whose rows sum to 1. All
    teachers share the resamples, because they see the same images.
    """
    generator = np.random.default_rng(0)
    shares = np.full(num_images, 1.0 / num_images)
    return generator.multinomial(num_images, shares, RESAMPLES) / num_images


def interval(values):
    """Returns the 95 % interval `(low, high)` of resampled values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def orders(transfers, entropy):
    """Returns the order of teachers in each row, the best first.

    The share of transferable samples decides, then the entropy. Both have the
    shape `(rows, teachers)`.
    """
    # Shares are whole numbers of images: rounding must not decide a tie.
    return np.lexsort((-entropy, -transfers.round(9)), axis=-1)


def decided(transfers, orders):
    """Returns whether each place has a larger share than the next one.

    Of the shape `(rows, teachers - 1)`. Between equal shares, the images decide
    nothing.
    """
    shares = np.take_along_axis(transfers.round(9), orders, axis=-1)
    return shares[:, :-1] > shares[:, 1:]
