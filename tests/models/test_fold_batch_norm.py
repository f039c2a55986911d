"""The folded copy: the same logits, fewer layers, a model like any other."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_adaad import models
from keras_adaad.models.fold_batch_norm import fold_batch_norm
from tests import networks


def batch_norms(model):
    return sum(
        batch_norms(layer)
        if isinstance(layer, keras.Model)
        else isinstance(layer, layers.BatchNormalization)
        for layer in model.layers
    )


def depthwise_net():
    """A bias, a depthwise convolution, and a BatchNorm with none before it."""
    inputs = keras.Input(networks.SHAPE)
    x = layers.BatchNormalization()(inputs)
    x = layers.Conv2D(6, 3, padding="same", bias_initializer="normal")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, 2, depth_multiplier=2, use_bias=False)(x)
    x = layers.Flatten()(layers.BatchNormalization(scale=False)(x))
    model = keras.Model(inputs, layers.Dense(10)(x))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            generator = np.random.default_rng(0)
            for w in layer.weights:
                w.assign(generator.uniform(0.5, 1.5, w.shape))
    return model


@pytest.mark.parametrize(
    "make, left",
    [
        (networks.student_net, 0),
        (
            lambda: models.with_normalization(
                networks.student_net(), [0.3], [0.5]
            ),
            0,
        ),
        (depthwise_net, 1),
    ],
)
def test_logits_are_the_same(batch, tmp_path, make, left):
    model, (x, _) = make(), batch
    before = networks.snapshot(model)
    folded = fold_batch_norm(model)
    assert batch_norms(model) > batch_norms(folded) == left
    logits = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        folded.predict(x, verbose=0), logits, rtol=1e-4, atol=1e-5
    )
    networks.assert_same(before, networks.snapshot(model))
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), logits, rtol=1e-4, atol=1e-5
    )


def test_a_subclassed_model_is_refused(batch):
    model = networks.Subclassed(4)
    model(batch[0])
    with pytest.raises(ValueError, match="Functional or Sequential"):
        fold_batch_norm(model)
