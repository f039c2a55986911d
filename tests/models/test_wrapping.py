"""Networks from elsewhere: a softmax taken off, a normalisation put on."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_adaad
from keras_adaad import models
from keras_adaad.frozen.network import check_network
from tests import networks


def head(*last):
    inputs = keras.Input(networks.SHAPE)
    x = layers.Flatten()(layers.Conv2D(4, 3)(inputs))
    for layer in last:
        x = layer(x)
    return keras.Model(inputs, x, name="net")


def nested(model):
    inputs = keras.Input(networks.SHAPE)
    return keras.Model(inputs, model(layers.Rescaling(2.0)(inputs)))


SOFTMAX = {
    "dense": lambda: head(layers.Dense(5, activation="softmax")),
    "activation": lambda: head(layers.Dense(5), layers.Activation("softmax")),
    "layer": lambda: head(layers.Dense(5), layers.Softmax()),
    "operation": lambda: head(layers.Dense(5), keras.ops.softmax),
    "layer-as-activation": lambda: head(
        layers.Dense(5), layers.Activation(layers.Softmax())
    ),
    "layer-in-dense": lambda: head(layers.Dense(5, layers.Softmax())),
    "nested": lambda: nested(head(layers.Dense(5), layers.Softmax())),
    "nested-dense": lambda: nested(head(layers.Dense(5, "softmax"))),
    "nested-twice": lambda: nested(nested(head(layers.Dense(5, "softmax")))),
    "sequential-in-sequential": lambda: keras.Sequential(
        [keras.Input(networks.SHAPE), head(layers.Dense(5, "softmax"))]
    ),
    "sequential": lambda: keras.Sequential(
        [
            keras.Input(networks.SHAPE),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ]
    ),
}


@pytest.mark.parametrize("case", SOFTMAX)
def test_softmax_is_taken_off(case, batch):
    model, x = SOFTMAX[case](), batch[0]
    probabilities = model.predict(x, verbose=0)
    stripped = models.logits(model)
    logits = stripped.predict(x, verbose=0)
    assert np.ptp(logits.sum(-1)) > 1e-3
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
    # The original is as it was.
    np.testing.assert_allclose(model.predict(x, verbose=0), probabilities)
    keras_adaad.PGDAT(stripped)  # Which refuses a softmax.


def test_logits_are_left_alone():
    model = networks.student_net()
    assert models.logits(model) is model
    wrapped = models.with_normalization(model, [0.3], [0.5])
    assert models.logits(wrapped) is wrapped


def test_what_cannot_be_seen_is_refused(batch):
    model = networks.Subclassed(4)
    model(batch[0])
    with pytest.raises(ValueError, match="Functional or Sequential"):
        models.logits(model)
    with pytest.raises(TypeError, match="model"):
        models.logits(lambda x: x)


def test_normalization(batch):
    model, x = networks.student_net(), batch[0]
    wrapped = models.with_normalization(model, [0.3], [0.5])
    expected = model.predict((x - 0.3) / 0.5, verbose=0)
    found = wrapped.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # In the attack too, and there the convolutions inside are folded.
    network = check_network(wrapped, x)
    attacked = network.logits(x)
    np.testing.assert_allclose(attacked, expected, rtol=1e-4, atol=1e-5)
    assert len(network.folds) == 2


def test_dtype(batch):
    model, x = networks.student_net(), batch[0]
    model = models.with_normalization(model, [0.3], [0.5])
    copy = models.with_dtype(model, "mixed_bfloat16")
    (_, _, net) = copy.layers
    conv = net.get_layer("conv0")
    assert (conv.compute_dtype, conv.kernel.dtype) == ("bfloat16", "float32")
    expected = model.predict(x, verbose=0)
    found = copy.predict(x, verbose=0).astype("float32")
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 1e-5 < error < 0.03
    again = models.with_dtype(copy, "float32").predict(x, verbose=0)
    np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-6)
    # The original keeps its weights, and an attack takes the two together.
    distiller = keras_adaad.AdaAD(copy, networks.student_net())
    assert np.isfinite(distiller.perturb(x)).all()
    assert model.trainable and not copy.trainable


def test_normalization_is_saved(batch, tmp_path):
    wrapped = models.with_normalization(networks.student_net(), [0.3], [0.5])
    wrapped.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(batch[0], verbose=0),
        wrapped.predict(batch[0], verbose=0),
    )


@pytest.mark.once
@pytest.mark.parametrize(
    "mean, std", [((0.5, 0.5), (1, 1)), ((0.5,), (0.0,)), ((0.5,), 1.0)]
)
def test_statistics_must_fit(mean, std):
    with pytest.raises(ValueError, match="`(mean|std)`"):
        models.with_normalization(networks.student_net(), mean, std)


def test_each_image_by_its_own_statistics(digits):
    x = np.repeat(digits[0][:4], 3, axis=-1)
    x[0] = 0.25
    model = models.WideResNet(10, 1, (8, 8, 3), mean="image")
    plain = models.WideResNet(10, 1, (8, 8, 3))
    plain.set_weights(model.get_weights())
    flat = x.reshape(4, -1)
    std = np.maximum(flat.std(-1, ddof=1), flat.shape[1] ** -0.5)
    by_hand = (x - flat.mean(-1)[:, None, None, None]) / std[
        :, None, None, None
    ]
    np.testing.assert_allclose(
        model.predict(x, verbose=0),
        plain.predict(by_hand.astype("float32"), verbose=0),
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments",
    [
        dict(input_shape=(32, 32)),
        dict(input_shape=(32, 32, None)),
        dict(num_classes=1),
        dict(num_classes=10.0),
        dict(data_format="NHWC"),
        dict(mean=(0.5, 0.5, 0.5)),
        dict(std=(0.5, 0.5, 0.5)),
        dict(mean=(0.5,), std=(0.5,)),
        dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.0)),
    ],
)
def test_bad_networks(arguments):
    with pytest.raises(ValueError, match=f"`({'|'.join(arguments)}|mean)`"):
        models.ResNet18(**arguments)


@pytest.mark.once
@pytest.mark.parametrize("depth, width", [(29, 10), (4, 1), (28, 0), (28, 2.0)])
@pytest.mark.parametrize("build", [models.WideResNet, models.DMWideResNet])
def test_bad_depth_and_width(build, depth, width):
    with pytest.raises(ValueError, match="`(depth|width)`"):
        build(depth, width)
