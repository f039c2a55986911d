"""Random numbers for attacks, inside and outside of compiled steps."""

import keras
import numpy as np
from keras import ops

from keras_adaad import backend


class SeedGenerator(keras.random.SeedGenerator):
    """Keras's generator, with different numbers for every replica.

    Replicas share the state. With Keras's own generator, all would draw the
    same numbers for their parts of the batch.
    """

    def next(self, ordered=True):
        seed = super().next(ordered)
        replica = ops.cast(backend.replica_index(), seed.dtype)
        # Far apart. The first replica draws the numbers of a single one.
        return seed + ops.stack([1_000_003 * replica, 0 * replica])


class GraphRNG:
    """Draws inside a compiled step, with `keras.random`.

    If `seed` is an int and not a generator, every step draws the same.
    """

    def __init__(self, seed):
        self.seed = seed

    def normal(self, shape):
        return keras.random.normal(shape, dtype="float32", seed=self._next())

    def uniform(self, shape):
        return keras.random.uniform(
            shape, -1.0, 1.0, dtype="float32", seed=self._next()
        )

    def _next(self):
        seed = self.seed
        if isinstance(seed, int):
            # The draws within a step, one per restart, differ.
            self.seed += 1
        return seed


class HostRNG:
    """Draws outside of any compiled step, from one stream per image.

    The numbers of an image depend only on the seed and on its index in the
    data set (`rows`), not on the batch size, the backend or other images.
    """

    def __init__(self, seed, rows):
        self.generators = [
            np.random.default_rng([*seed, int(row)]) for row in rows
        ]

    def normal(self, shape):
        return np.stack(
            [
                generator.standard_normal(shape[1:], dtype="float32")
                for generator in self.generators
            ]
        )

    def uniform(self, shape):
        return np.stack(
            [
                2.0 * generator.random(shape[1:], dtype="float32") - 1.0
                for generator in self.generators
            ]
        )
