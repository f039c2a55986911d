"""Checks of images and labels, and the look at a data set's first batch."""

import itertools

import keras
import numpy as np


def check_images(name, x, input_range):
    """Returns the images `x` as a NumPy array, or raises.

    Args:
        name: Name of the argument, for the message.
        x: Images, one array or tensor of shape `(num_images, ...)`.
        input_range: The pair `(low, high)` that pixels must lie in.

    Raises:
        TypeError: If `x` is not one numeric array.
        ValueError: If it is empty, holds NaN or infinity, or leaves
            `input_range`.
    """
    if isinstance(x, (dict, list, tuple)) or x is None:
        raise TypeError(
            f"Argument `{name}` must be one array or tensor of images: the "
            "attack perturbs a single input. "
            f"Received: {name} of type {type(x).__name__}"
        )
    x = to_numpy(x)
    # bfloat16 arrives as a type that NumPy knows as "V"oid.
    if x.dtype.kind not in "fiub" and x.dtype.name != "bfloat16":
        raise TypeError(
            f"Argument `{name}` must hold numbers. "
            f"Received: {name} of dtype {x.dtype}"
        )
    if x.ndim < 2 or x.size == 0:
        raise ValueError(
            f"Argument `{name}` must be a non-empty batch of images, of shape "
            f"`(num_images, ...)`. Received: {name}.shape={x.shape}"
        )
    low, high = input_range
    if x.dtype.kind in "iub" and high - low <= 1.0:
        raise ValueError(
            f"Argument `{name}` holds integers of type {x.dtype}, and "
            f"`input_range` is {input_range}. Rescale the images, e.g. "
            f"`{name}.astype('float32') / 255`, or pass "
            "`input_range=(0, 255)` with a model that rescales inside. "
            f"Received: {name} of dtype {x.dtype}"
        )
    smallest, largest = float(x.min()), float(x.max())
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        raise ValueError(
            f"Argument `{name}` holds NaN or infinite values. Remove or "
            f"replace them, e.g. with `np.nan_to_num`. Received: {name} with "
            f"minimum {smallest} and maximum {largest}"
        )
    slack = 1e-4 * (high - low)
    if smallest < low - slack or largest > high + slack:
        raise ValueError(
            f"Argument `{name}` has values outside `input_range`. Rescale the "
            "images (and put any mean/std normalisation inside the model), "
            f"or pass the `input_range` they have. Received: {name} with "
            f"values in [{smallest:g}, {largest:g}], input_range={input_range}"
        )
    return x


def check_labels(name, y, num_images, num_classes):
    """Returns the labels `y` as a NumPy array, or raises.

    Args:
        name: Name of the argument, for the message.
        y: Class indices of shape `(num_images,)` or `(num_images, 1)`, or
            one-hot labels of shape `(num_images, num_classes)`.
        num_images: Number of images they belong to.
        num_classes: Number of classes of the model.

    Raises:
        ValueError: If the shape or a value does not fit.
    """
    y = to_numpy(y)
    shapes = [(num_images,), (num_images, 1), (num_images, num_classes)]
    if y.shape not in shapes:
        raise ValueError(
            f"Argument `{name}` must hold class indices of shape {shapes[0]} "
            f"or one-hot labels of shape {shapes[2]}. "
            f"Received: {name}.shape={y.shape}"
        )
    if y.dtype.kind not in "fiub" or not np.isfinite(y).all():
        raise ValueError(
            f"Argument `{name}` must hold finite numbers. "
            f"Received: {name} of dtype {y.dtype}"
        )
    if y.shape != shapes[2] and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(
            f"Argument `{name}` must hold class indices in "
            f"[0, {num_classes - 1}], the classes of the model. "
            f"Received: {name} with values in [{y.min()}, {y.max()}]"
        )
    return y


def first_batch(x):
    """Returns the first element of a data set, and the data set to use.

    Args:
        x: A `tf.data.Dataset`, `keras.utils.PyDataset`, torch `DataLoader`,
            generator, or any other iterable of batches that `fit` takes.

    Returns:
        A tuple `(batch, x)`. `batch` is `(images, labels)`, or `None`
        when the elements are not plain arrays (a distributed data set). `x` is
        the data set with nothing lost: a generator gets its batch back.
    """
    if isinstance(x, keras.utils.PyDataset):
        batch = x[0]
    elif hasattr(x, "__next__"):
        batch = next(x)
        x = _chain(batch, x)
    else:
        batch = next(iter(x))
    batch = tuple(batch) if isinstance(batch, list) else batch
    images, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    if not isinstance(images, (dict, list, tuple)):
        if to_numpy(images).dtype == object:
            return None, x
    return (images, y), x


def is_array(x):
    """Whether `fit` takes `x` as one array rather than a set of batches."""
    return keras.ops.is_tensor(x) or hasattr(x, "__array__")


def to_numpy(x):
    """Returns an array or tensor of any framework as a NumPy array."""
    if keras.ops.is_tensor(x):
        return keras.ops.convert_to_numpy(x)
    return np.asarray(x)


def _chain(batch, generator):
    # A generator function, because Keras recognises generators by their type.
    yield from itertools.chain([batch], generator)
