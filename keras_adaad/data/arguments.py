"""Checks of the images and labels that a data set is made of."""

import numpy as np

from keras_adaad import checks
from keras_adaad.checks.data import white


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
    # NaN and infinity have their own error.
    outside = x.dtype.kind == "f" and (
        -np.inf < x.min() < -1e-4 or 1.0 + 1e-4 < x.max() < np.inf
    )
    if outside or x.dtype.kind in "iub":
        raise ValueError(
            f"Argument `{name}` must hold images of uint8, or floats in "
            f"[0, 1]. Rescale them, e.g. `{name}.astype('float32') / "
            f"{white(x)}`, and put any mean/std normalisation inside the "
            f"model. Received: {name} of dtype {x.dtype}, with values in "
            f"[{x.min()}, {x.max()}]"
        )
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
        values = f"such as {y.ravel()[:1].tolist()[0]!r}"
        if y.dtype.kind in "iuf":
            values = f"with values in [{y.min()}, {y.max()}]"
        raise ValueError(
            f"Argument `{name}` must be class indices: integers from 0. "
            f"Received: {name} of dtype {y.dtype}, {values}"
        )
    return y.reshape(-1).astype("int32")
