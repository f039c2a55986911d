"""Small networks for the tests, with non-default BatchNorm statistics."""

import keras
import numpy as np

from benchmarks import networks

SHAPE = (8, 8, 1)


def teacher_net(name="teacher"):
    return randomized(networks.conv_net((16, 24), SHAPE, name=name), seed=1)


def student_net(name="student"):
    return randomized(networks.conv_net((8, 12), SHAPE, name=name), seed=2)


def dense_net(name=None):
    """Without BatchNorm and dropout, one replica and two compute the same."""
    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(16, activation="tanh")(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x), name=name)


class Subclassed(keras.Model):
    """A model that is built by its first call, with state of every kind."""

    def __init__(self, width, name=None, num_classes=10):
        super().__init__(name=name)
        self.conv = keras.layers.Conv2D(width, 3, use_bias=False)
        self.batch_norm = keras.layers.BatchNormalization()
        self.dropout = keras.layers.Dropout(0.3)
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.dense = keras.layers.Dense(num_classes)

    def call(self, x, training=False):
        x = self.batch_norm(self.conv(x), training=training)
        x = self.dropout(keras.ops.relu(x), training=training)
        return self.dense(self.pool(x))


def randomized(model, seed):
    """Randomizes every BatchNorm and doubles the kernels."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for w in layer.weights:
                positive = w is layer.gamma or w is layer.moving_variance
                low = 0.5 if positive else -0.3
                w.assign(generator.uniform(low, low + 1.0, w.shape))
        elif layer.get_weights() and hasattr(layer, "kernel"):
            # Logits as large as a trained network's.
            layer.kernel.assign(2.0 * keras.ops.convert_to_tensor(layer.kernel))
    return model


def logits(model, x):
    """Returns what the model's own call returns, with nothing compiled.

    Where it has run like this before, that takes less time than `predict`.
    """
    outputs = model(keras.ops.convert_to_tensor(x), training=False)
    return keras.ops.convert_to_numpy(outputs)


def snapshot(model):
    """Returns all variables of a model as NumPy, random state included."""
    return [keras.ops.convert_to_numpy(v) for v in model.variables]


def assert_same(before, after):
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
