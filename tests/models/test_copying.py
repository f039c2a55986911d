"""A copy of a model has all of its state, and its logits."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import keras_adaad
from keras_adaad import models
from keras_adaad.models.copying import copy_model
from tests import networks


def adapted(x, sequential=False):
    """A network with statistics that `adapt` has computed, and BatchNorm."""
    normalization = layers.Normalization()
    normalization.adapt(3.0 * x + 1.0)
    stages = [
        normalization,
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(10),
    ]
    inputs = keras.Input(networks.SHAPE)
    if sequential:
        model = keras.Sequential([inputs, *stages])
    else:
        outputs = inputs
        for stage in stages:
            outputs = stage(outputs)
        model = keras.Model(inputs, outputs)
    return networks.randomized(model, seed=1)


def averaged(model):
    """The student of `StochasticWeightAveraging`, whose weights stand still."""
    x = np.zeros((2, *networks.SHAPE), "float32")
    callback = keras_adaad.callbacks.StochasticWeightAveraging(
        x, 0, "unused.keras"
    )
    callback.set_model(model)
    callback.on_train_begin()
    callback._begin()
    callback._average(1.0)
    return callback.student


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize(
    "copy",
    [
        copy_model,
        lambda model: models.with_dtype(model, "float32"),
        models.fold_batch_norm,
        averaged,
    ],
)
def test_adapted_statistics_are_copied(batch, copy, sequential):
    x, _ = batch
    model = adapted(x, sequential)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        copy(model).predict(x, verbose=0), expected, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


def test_a_copy_has_weights_of_its_own(batch):
    x, _ = batch
    model = networks.teacher_net()
    copy = copy_model(model)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        copy.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6
    )
    copy.set_weights([0.0 * w for w in copy.get_weights()])
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)


class Forgetful(layers.Layer):
    """Has state that is neither a variable nor in its config."""

    shift = 0.0

    def call(self, x):
        return x + self.shift


@pytest.mark.parametrize(
    "copy",
    [
        copy_model,
        models.fold_batch_norm,
        lambda model: models.with_dtype(model, "mixed_bfloat16"),
    ],
)
def test_state_that_cannot_be_copied_is_noticed(copy):
    inputs = keras.Input(networks.SHAPE)
    layer = Forgetful()
    x = layers.Conv2D(4, 3)(layer(inputs))
    x = layers.Flatten()(layers.BatchNormalization()(x))
    model = keras.Model(inputs, layers.Dense(10)(x))
    layer.shift = 2.0
    with pytest.raises(ValueError, match="does not return its logits"):
        copy(model)


def test_quantized_models_keep_their_dtype(batch):
    model = adapted(batch[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.quantize("int8")
    with pytest.raises(ValueError, match="'dense.*' quantized to int8"):
        models.with_dtype(model, "mixed_bfloat16")
    with pytest.raises(ValueError, match="quantized"):
        models.fold_batch_norm(model)
