"""Checks that devices can divide the batches.

JAX divides each batch evenly over the devices of a `keras.distribution`. Under
a `tf.distribute` strategy, each replica must get at least one image.
"""

import contextlib

import keras

from keras_adaad import backend

_FIX = (
    "Choose a batch size and a number of images that leave no such batch, or "
    "drop the last one: `drop_remainder=True` of a loader of "
    "`keras_adaad.data` or of `dataset.batch`, or "
    "`x[: len(x) // batch_size * batch_size]`."
)


def check(name, images, batch_size):
    """Raises if the devices cannot divide one of an array's batches."""
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


@contextlib.contextmanager
def explained():
    """Adds advice to JAX's error for a batch that it cannot divide."""
    try:
        yield
    except ValueError as error:
        # Recognised by name, because JAX is not imported here.
        if type(error).__name__ != "IndivisibleError":
            raise
        raise ValueError(
            "A batch of the data does not divide between the "
            f"{_devices()} devices. {_FIX} {error}"
        ) from error


def _devices():
    """Returns the number of this process's devices that share a batch."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    return max(distribution.num_model_replicas // distribution.num_processes, 1)
