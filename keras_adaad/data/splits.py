"""Names and slices of splits, in the words of TensorFlow Datasets."""

import re

import numpy as np

PATTERN = re.compile(r"(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


def parse_split(split):
    """Takes `"train[:90%]"` apart.

    Returns:
        A tuple `(name, bounds)`, e.g. `("train", (None, "90%"))`; `bounds` is
        `None` where there is no slice.
    """
    match = PATTERN.fullmatch(split) if isinstance(split, str) else None
    if match is None:
        raise ValueError(
            "Argument `split` must be a name, or a slice such as "
            '"train[:90%]" or "train[-1000:]". '
            f"Received: split={split!r}"
        )
    name, *bounds = match.groups()
    return name, tuple(bounds) if "[" in split else None


def rows_of(bounds, size):
    """Returns which of `size` images a slice takes, in their order.

    The slice is one of an order that is shuffled once and for all, so that it
    has all classes where the images are stored class by class.
    """
    if bounds is None:
        return np.arange(size)
    start, stop = (_place(bound, size) for bound in bounds)
    order = np.random.default_rng(0).permutation(size)
    rows = np.sort(order[start:stop])
    if not len(rows):
        raise ValueError(
            "Argument `split` takes no image. "
            f"Received: the slice {bounds} of {size} images"
        )
    return rows


def _place(bound, size):
    if bound is None:
        return None
    if bound.endswith("%"):
        place = round(int(bound[:-1]) * size / 100)
    else:
        place = int(bound)
    if abs(place) > size:
        raise ValueError(
            "Argument `split` asks for more than there is. "
            f"Received: the bound {bound} of {size} images"
        )
    return place
