"""Checks of the images and labels that a data set is made of."""

import numpy as np

from keras_adaad import checks


def check_images(name, x):
    """Returns images as uint8, or float32 in [0, 1], or raises."""
    x = np.asarray(x)
    if x.ndim != 4 or x.size == 0:
        raise ValueError(
            f"Argument `{name}` must be a non-empty array of images, of shape "
            "`(num_images, height, width, channels)`. "
            f"Received: {name}.shape={x.shape}"
        )
    if x.dtype == np.uint8:
        return x
    x = checks.check_images(name, x, (0.0, 1.0))
    return x.astype("float32", copy=False)


def check_labels(name, y, num_images):
    """Returns class indices as int32 of shape `(num_images,)`, or raises."""
    y = np.asarray(y)
    if y.shape not in [(num_images,), (num_images, 1)]:
        raise ValueError(
            f"Argument `{name}` must be a class index for each image, of shape "
            f"{(num_images,)}. Received: {name}.shape={y.shape}"
        )
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= 2**31:
        raise ValueError(
            f"Argument `{name}` must be class indices: integers from 0. "
            f"Received: {name} of dtype {y.dtype}, with values in "
            f"[{y.min()}, {y.max()}]"
        )
    return y.reshape(-1).astype("int32")
