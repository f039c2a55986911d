"""What is within a model, and what of it has changed."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_adaad.frozen.fingerprint import fingerprint
from keras_adaad.frozen.fingerprint import is_same
from keras_adaad.frozen.fingerprint import layers_within


class Block(layers.Layer):
    """Holds layers as PyTorch's modules do, in a list and in a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(4, name="first")
        self.others = [layers.Dense(4, name="second")]
        self.last = {"last": layers.Dense(4, name="third")}

    def call(self, x):
        return self.last["last"](self.others[0](self.first(x)))


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block = Block(name="block")

    def call(self, x):
        return self.block(x)


def functional():
    inputs = keras.Input((4,))
    return keras.Model(inputs, Block(name="block")(inputs))


@pytest.mark.parametrize("make", [functional, Subclassed])
@pytest.mark.parametrize("name", ["block", "first", "second", "third"])
def test_layers_within_layers(make, name):
    model = make()
    model(np.zeros((2, 4), "float32"))
    (layer,) = [layer for layer in layers_within(model) if layer.name == name]
    before = fingerprint(model)
    assert is_same(before, fingerprint(model))
    layer.activation = keras.activations.tanh
    assert not is_same(before, fingerprint(model))
