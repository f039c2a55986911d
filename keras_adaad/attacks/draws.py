"""The two sources of random starts, with the same two names."""

import keras
import numpy as np


class GraphDraws:
    """Draws inside a compiled step, from Keras's own generator.

    Args:
        seed: A `keras.random.SeedGenerator`, whose state moves on with every
            draw, or an int, which has no state: every step draws the same.
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
            # The draws of one step, one per restart, differ.
            self.seed += 1
        return seed


class HostDraws:
    """Draws sample after sample from one stream, outside any compiled step.

    The draws of a sample depend on the seed and on its place in the data set:
    neither the batch size nor the backend changes them.

    Args:
        seed: Any seed that `numpy.random.default_rng` takes.
    """

    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)

    def normal(self, shape):
        return self.generator.standard_normal(shape, dtype="float32")

    def uniform(self, shape):
        return self.generator.uniform(-1.0, 1.0, shape).astype("float32")
