"""Compiled networks for attacks on arrays, with weights as arguments."""

import itertools
import weakref
from typing import Any

import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad.backend import keras_private
from keras_adaad.frozen.network import check_network
from keras_adaad.frozen.network import frozen_network

# One per model, so that compiled programs are reused.
_CLASSIFIERS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class Classifier:
    """Compiled programs that take the weights of a network as arguments.

    New weights need no new program, only `load_weights()`. The weights,
    statistics and random state of the model do not change.
    """

    def __init__(self, network, num_classes):
        self.network = network
        self.num_classes = num_classes
        self._random_states = network.random_states()
        self._programs = {}
        self._fold = backend.compile_function(network.weights, network.model())

    @classmethod
    def of(cls, model, num_classes, seed=0, images=None):
        """Returns the classifier of a built model, with its current weights.

        `seed` is for randomness in the model itself, such as dropout that is
        left on. If there are `images`, the frozen network is compared with the
        model on them.
        """
        # Before the first program is traced. It can't be made in one.
        keras_private.global_random_states(create=True)
        if images is None:
            network = frozen_network(model)
        else:
            network = check_network(model, images)
        classifier = _CLASSIFIERS.get(model)
        if classifier is None or classifier.network is not network:
            classifier = _CLASSIFIERS[model] = cls(network, num_classes)
        classifier.load_weights(seed)
        return classifier

    def load_weights(self, seed=0):
        self._generator = np.random.default_rng(seed)
        self._weights = list(self._fold())

    def program(self, key, function):
        """Returns `function(logits, *args)` as a compiled `program(*args)`.

        `logits` is a function from images to float32 logits. Functions with the
        same `key` must compute the same.
        """
        if key not in self._programs:
            self._programs[key] = backend.compile_function(
                lambda weights, states, *args: function(
                    self._logits(weights, states), *args
                ),
                jit_compile=self.network.model().jit_compile,
            )
        compiled = self._programs[key]
        return lambda *args: compiled(self._weights, self._draw(), *args)

    def predict(self, x, batch_size):
        """Returns the logits of images, a float32 NumPy array."""
        predict = self.program("predict", lambda logits, x: logits(x))
        outputs = [
            backend.to_host(predict(backend.to_devices(pad(x[rows], size))))[
                : len(rows)
            ]
            for rows, size in batches(np.arange(len(x)), batch_size)
        ]
        return np.concatenate(outputs)

    def _logits(self, weights, states):
        # A random model draws new numbers in every forward pass.
        calls = itertools.count()

        def logits(x):
            values, call = list(weights), next(calls)
            for place, state in zip(self._random_states, states, strict=True):
                values[place] = state + ops.cast(call, state.dtype)
            outputs = self.network.call(values, x)
            return ops.cast(outputs, "float32")

        return logits

    def _draw(self):
        states = [self._weights[place] for place in self._random_states]
        return [
            ops.convert_to_tensor(
                self._generator.integers(2**31, size=tuple(state.shape)),
                dtype=state.dtype,
            )
            for state in states
        ]


def batches(rows, batch_size):
    """Divides rows into pairs `(rows, size)`; the last is to be padded to that.

    If the backend compiles a program for each size, the size of the last batch
    is a multiple of a quarter of `batch_size`. Little computation is wasted on
    padding, and at most four programs are compiled.
    """
    cut = []
    quarter = -(-batch_size // 4) if backend.STATIC_SHAPES else 1
    for begin in range(0, len(rows), batch_size):
        some = rows[begin : begin + batch_size]
        size = min(-(-len(some) // quarter) * quarter, batch_size)
        cut.append((some, size))
    return cut


def pad(array, size):
    """Pads an array to `size` entries by repeating the last one."""
    if len(array) == size:
        return array
    missing = np.repeat(array[-1:], size - len(array), axis=0)
    return np.concatenate([array, missing])
