"""Scopes that leave networks and random states as they were."""

import contextlib
import random

import numpy as np

from keras_adaad import backend
from keras_adaad.frozen.fingerprint import layers_within


@contextlib.contextmanager
def seeded(seed):
    """Makes random draws repeatable inside, and changes none outside."""
    # Keras takes the seeds of its initializers and layers from `random`.
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        with backend.fixed_randomness():
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


@contextlib.contextmanager
def kept_trainable(model):
    """Restores the `trainable` flags, because a distiller freezes a teacher."""
    layers = [(layer, layer.trainable) for layer in layers_within(model)]
    variables = [(v, v.trainable) for v in model.variables]
    try:
        yield
    finally:
        # A layer sets the flags of its parts, which come after it.
        for part, trainable in (*layers, *variables):
            part.trainable = trainable
