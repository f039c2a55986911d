"""Names and slices of splits, in the syntax of TensorFlow Datasets."""

import re

import numpy as np

PATTERN = re.compile(r"([^\[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


def parse_split(split):
    """Parses `"train[:90%]"` as `("train", (None, "90%"))`.

    The bounds are `None` if there is no slice.
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
    """Returns the sorted indices of the images in a slice of `size` images.

    The slice is taken from a fixed random order, so that it has all classes
    even if the images are stored class by class.
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
