"""CutMix: a part of each image is from another image of the batch."""

import numpy as np

# Random numbers per image: its place in the order of the others, the share of
# the other image, and the centre of its part.
DRAWS = 4


def cut_and_mix(images, labels, draws):
    """Returns the images with a box from another image, and mixed labels.

    Args:
        images: Array of shape `(batch_size, height, width, channels)`.
        labels: Probabilities of shape `(batch_size, num_classes)`, or `None`.
        draws: Uniform random numbers of shape `(batch_size, DRAWS)`.

    Returns:
        A tuple `(images, labels)`. A label is weighted by the share of pixels.
    """
    _, height, width, _ = images.shape
    order, shares, *centres = draws.T
    others = np.argsort(order)
    sides = np.sqrt(shares)
    tops, bottoms = edges(centres[0], sides, height)
    lefts, rights = edges(centres[1], sides, width)
    mixed = images.copy()
    boxes = zip(tops, bottoms, lefts, rights, strict=True)
    for place, (top, bottom, left, right) in enumerate(boxes):
        box = images[others[place], top:bottom, left:right]
        mixed[place, top:bottom, left:right] = box
    if labels is None:
        return mixed, None
    areas = (bottoms - tops) * (rights - lefts) / (height * width)
    areas = areas[:, None].astype("float32")
    return mixed, (1 - areas) * labels + areas * labels[others]


def edges(centres, sides, size):
    """Returns where boxes begin and end, cut off at the image's border."""
    middle = np.floor(centres * size).astype("int64")
    half = np.floor(sides * size).astype("int64") // 2
    return np.maximum(middle - half, 0), np.minimum(middle + half, size)
