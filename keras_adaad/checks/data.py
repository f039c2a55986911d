"""Checks of images and labels in arrays, first batches and compiled steps."""

import itertools

import keras
import numpy as np
from keras import ops


def check_images(name, x, input_range):
    """Returns images within `input_range` as a NumPy array, or raises."""
    if isinstance(x, (dict, list, tuple)) or x is None:
        raise TypeError(
            f"Argument `{name}` must be one array or tensor of images: the "
            "attack perturbs a single input. "
            f"Received: {name} of type {type(x).__name__}"
        )
    x = to_numpy(x)
    # The kind of bfloat16 in NumPy is "V", void.
    if x.dtype.kind not in "fiub" and x.dtype.name != "bfloat16":
        raise TypeError(
            f"Argument `{name}` must hold numbers. For a data set of batches, "
            "use `keras_adaad.data.to_arrays`. "
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
            f"`{name}.astype('float32') / {white(x)}`, or pass "
            f"`input_range=(0, {white(x)})` with a model that rescales inside. "
            f"Received: {name} of dtype {x.dtype}"
        )
    smallest, largest = float(x.min()), float(x.max())
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        raise ValueError(
            f"Argument `{name}` holds NaN or infinite values. Remove or "
            f"replace them, e.g. with `np.nan_to_num`. Received: {name} with "
            f"minimum {smallest} and maximum {largest}"
        )
    lowest, highest = _allowed_range(input_range)
    if smallest < lowest or largest > highest:
        raise ValueError(
            f"Argument `{name}` has values outside `input_range`. Rescale the "
            "images (and put any mean/std normalisation inside the model), "
            f"or pass the `input_range` they have. Received: {name} with "
            f"values in [{smallest:g}, {largest:g}], input_range={input_range}"
        )
    if low == 0.0 and high > 100.0 and 0.0 < largest <= 1.0:
        raise ValueError(
            f"Argument `{name}` looks as if it were scaled to [0, 1], and "
            f"`input_range` is {input_range}: epsilon would be larger than the "
            "images. Leave out `input_range`, or give the images their range. "
            f"Received: {name} with values in [{smallest:g}, {largest:g}]"
        )
    return x


def white(x):
    """Returns the value that white probably has in images of numbers."""
    if x.dtype.kind == "b":
        return 1
    if x.dtype.kind == "f" or x.max() <= 255:
        return 255
    return np.iinfo(x.dtype).max


def check_labels(name, y, output_shape):
    """Returns the labels `y` as a NumPy array, or raises.

    `output_shape` is that of the logits on all images: `(num_images,
    num_classes)`, or with axes between the two, such as those of pixels.
    """
    y = to_numpy(y)
    *places, num_classes = output_shape
    shapes = [(*places,), (*places, 1), (*places, num_classes)]
    if y.shape not in shapes:
        raise ValueError(
            f"Argument `{name}` must hold class indices of shape {shapes[0]} "
            f"or one-hot labels of shape {shapes[2]}. "
            f"Received: {name}.shape={y.shape}"
        )
    check_numbers(name, y, len(y))
    if y.shape == shapes[2]:
        return y
    if (y != np.floor(y)).any():
        raise ValueError(
            f"Argument `{name}` must hold class indices, which are whole "
            "numbers. For a probability of each class pass an array of shape "
            f"{shapes[2]}. Received: {name} with the value "
            f"{y[y != np.floor(y)][0]}"
        )
    if y.min() < 0 or y.max() >= num_classes:
        raise ValueError(
            f"Argument `{name}` must hold class indices in "
            f"[0, {num_classes - 1}], the classes of the model. "
            f"Received: {name} with values in [{y.min()}, {y.max()}]"
        )
    return y


def check_targets(name, y, output_shape):
    """Returns targets in [0, 1] of the outputs' shape, or raises."""
    y = to_numpy(y)
    shapes = [output_shape]
    if output_shape[-1] == 1:
        shapes.append(output_shape[:-1])
    if y.shape not in shapes:
        raise ValueError(
            f"Argument `{name}` must hold a target of 0 or 1 for each output "
            f"of the model, of shape {output_shape}. "
            f"Received: {name}.shape={y.shape}"
        )
    check_numbers(name, y, len(y))
    if y.min() < 0 or y.max() > 1:
        raise ValueError(
            f"Argument `{name}` must hold targets of 0 or 1, or probabilities "
            f"between them. Received: {name} with values in "
            f"[{y.min()}, {y.max()}]"
        )
    return y.reshape(output_shape)


def check_numbers(name, y, num_images):
    """Returns an array with finite numbers for each image, or raises."""
    y = to_numpy(y)
    if y.shape[:1] != (num_images,):
        raise ValueError(
            f"Argument `{name}` must have an entry for each of the "
            f"{num_images} images. Received: {name}.shape={y.shape}"
        )
    if y.dtype.kind not in "fiub" or not np.isfinite(y).all():
        raise ValueError(
            f"Argument `{name}` must hold finite numbers. "
            f"Received: {name} of dtype {y.dtype}"
        )
    return y


def are_valid(x, y, input_range, num_classes):
    """Returns which samples pass `check_images` and `check_labels`.

    It runs inside the compiled step, which can't raise. The step sets the loss
    of an invalid sample to NaN, for which `check_loss` raises.
    """
    low, high = _allowed_range(input_range)
    # False for NaN too.
    in_range = ops.logical_and(x >= low, x <= high)
    valid = ops.all(in_range, axis=tuple(range(1, len(x.shape))))
    if y is None or (len(y.shape) == 2 and y.shape[-1] == num_classes):
        return valid
    y = ops.reshape(y, (-1,))
    index = ops.cast(y, "int32")
    known = ops.logical_and(index >= 0, index < num_classes)
    whole = ops.cast(index, y.dtype) == y
    return ops.logical_and(valid, ops.logical_and(known, whole))


def check_loss(name, loss, input_range, num_classes):
    """Raises if the mean loss of an epoch is not a finite number."""
    if np.isfinite(loss):
        return
    low, high = input_range
    raise ValueError(
        f"The loss is not a finite number. Received: {name}={loss}. Either a "
        "batch after the first is at fault: an image has NaN or values "
        f"outside `input_range`, [{low:g}, {high:g}]; a label is not a whole "
        f"number in [0, {num_classes - 1}]; or, under a `tf.distribute` "
        "strategy, the batch has fewer images than there are replicas. Check "
        "every batch of the data set. Or the training diverged, and the "
        "student's weights are not finite: lower the learning rate."
    )


def first_batch(name, x):
    """Returns the first batch of a data set, and the data set to use.

    The batch is `(images, labels)`, or `None` if it does not hold plain arrays,
    as in a distributed data set. A generator again starts with this batch.
    """
    if isinstance(x, keras.utils.PyDataset):
        batch = x[0] if x.num_batches != 0 else None
    else:
        batch = next(iter(x), None)
    if batch is None:
        raise ValueError(
            f"Argument `{name}` must have at least one batch. It is empty, or "
            "a generator that was used before: make it anew for each call. "
            f"Received: {name}={x!r}"
        )
    if hasattr(x, "__next__"):
        x = _chain(batch, x)
    batch = tuple(batch) if isinstance(batch, list) else batch
    images, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    one = not isinstance(images, (dict, list, tuple))
    if one and to_numpy(images).dtype == object:
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


def _allowed_range(input_range):
    low, high = input_range
    slack = 1e-4 * (high - low)
    return low - slack, high + slack


def _chain(batch, generator):
    # A generator function, because Keras recognises generators by their type.
    yield from itertools.chain([batch], generator)
