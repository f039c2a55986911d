"""More training images, e.g. generated ones, from an `.npz` file."""

import logging
import os

import numpy as np

from keras_adaad import checks
from keras_adaad.data.arguments import check_images
from keras_adaad.data.arguments import check_labels

LOGGER = logging.getLogger("keras_adaad")


def add_extra(images, labels, path):
    """Appends the images of an `.npz` file to those of the data set.

    Returns `(images, labels, num_extra)`. `labels` is `None` unless both have
    labels.
    """
    if not os.path.isfile(path):
        raise ValueError(
            "Argument `extra` must be the path of an `.npz` file. "
            f"Received: extra={path!r}, which is no file"
        )
    with np.load(path) as file:
        if "image" not in file:
            raise ValueError(
                "Argument `extra` must be an `.npz` file with an array "
                "`image`, and maybe `label`. "
                f"Received: extra={path!r} with {sorted(file)}"
            )
        extra = check_images("extra['image']", file["image"])
        extra_labels = None
        if labels is not None and "label" in file:
            extra_labels = check_labels(
                "extra['label']", file["label"], len(extra)
            )
    if (extra.shape[1:], extra.dtype) != (images.shape[1:], images.dtype):
        raise ValueError(
            "Argument `extra` must hold images of the size and type of the "
            f"data set. Received: {extra.shape[1:]} {extra.dtype}, and "
            f"{images.shape[1:]} {images.dtype} in the data set"
        )
    images = np.concatenate([images, extra])
    if extra_labels is None:
        if labels is not None:
            LOGGER.warning(
                "extra images have no labels: batches are images alone"
            )
        return images, None, len(extra)
    return images, np.concatenate([labels, extra_labels]), len(extra)


def extra_per_batch(fraction, batch_size):
    """Returns the number of extra images per batch, at most all but one."""
    fraction = checks.check_number("extra_fraction", fraction)
    if fraction >= 1.0:
        raise ValueError(
            "Argument `extra_fraction` must be in [0, 1). "
            f"Received: extra_fraction={fraction}"
        )
    return min(round(fraction * batch_size), batch_size - 1)
