"""Batches that can be divided between devices.

JAX divides each evenly over the devices of a `keras.distribution`. Under a
strategy of `tf.distribute` each replica must get an image.
"""

import contextlib
import math

import keras

from keras_adaad import backend
from keras_adaad import checks

_FIX = (
    "Choose a batch size and a number of images that leave no such batch, or "
    "drop the last one: `drop_remainder=True` of a loader of "
    "`keras_adaad.data` or of `dataset.batch`, or "
    "`x[: len(x) // batch_size * batch_size]`."
)


def check_fit(arguments):
    """Raises if arrays given to `fit` end in a batch that does not divide."""
    size = arguments.get("batch_size")
    validation_size = arguments.get("validation_batch_size") or size
    x, split = arguments["x"], arguments.get("validation_split") or 0.0
    if checks.is_array(x):
        training = math.floor(len(x) * (1.0 - split))
        _check("x", training, size)
        _check("x", len(x) - training, validation_size)
    if arguments.get("validation_data") is not None:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(
            arguments["validation_data"]
        )
        if checks.is_array(x):
            _check("validation_data", len(x), validation_size)


def check_evaluate(arguments):
    """Raises if arrays given to `evaluate` end in such a batch."""
    if checks.is_array(arguments["x"]):
        _check("x", len(arguments["x"]), arguments.get("batch_size"))


@contextlib.contextmanager
def explained():
    """Adds the fix to JAX's error for a data set with such a batch."""
    try:
        yield
    except ValueError as error:
        # Named, for JAX is not imported here.
        if type(error).__name__ != "IndivisibleError":
            raise
        raise ValueError(
            "A batch of the data does not divide between the "
            f"{_devices()} devices. {_FIX} {error}"
        ) from error


def _check(name, images, batch_size):
    batch_size = batch_size or 32
    for size in (min(batch_size, images), images % batch_size):
        if size % _devices():
            raise ValueError(
                f"Argument `{name}` has a batch of {size} images, which does "
                f"not divide between the {_devices()} devices. {_FIX} "
                f"Received: {images} images, batch_size={batch_size}"
            )
        if 0 < size < backend.replica_count():
            raise ValueError(
                f"Argument `{name}` has a batch of {size} images, too few for "
                f"the {backend.replica_count()} replicas. {_FIX} "
                f"Received: {images} images, batch_size={batch_size}"
            )


def _devices():
    """Returns between how many devices of this process a batch is divided."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    return max(distribution.num_model_replicas // distribution.num_processes, 1)
