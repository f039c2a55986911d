"""Files that one of several processes writes."""

import contextlib

import keras


@contextlib.contextmanager
def alone():
    """Lets a process save without the others.

    Keras makes variables while it saves. Under a `keras.distribution` these
    would be laid out over all processes, which have to take part in that.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)
