"""The folded graph of a model gives the model's own logits."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_adaad
from benchmarks import networks as benchmark_networks
from keras_adaad.frozen.folding import fold_graph
from keras_adaad.frozen.network import FrozenNetwork
from tests import networks


def nested():
    inner = benchmark_networks.conv_net((6, 8), (9, 9, 4), 5, name="inner")
    inputs = keras.Input((9, 9, 1))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.BatchNormalization(scale=False)(x)
    return keras.Model(inputs, inner(layers.ReLU()(x)))


def sequential():
    return keras.Sequential(
        [
            keras.Input((9, 9, 1)),
            layers.Conv2D(4, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.Conv2D(8, (1, 3), dilation_rate=2, padding="same"),
            layers.Conv2D(8, 3, groups=2, activation="relu"),
            layers.BatchNormalization(center=False),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )


def branching():
    """What must not fold: outputs used twice, layers used twice, other axes."""
    inputs = keras.Input((9, 9, 1))
    conv = layers.Conv2D(4, 3, padding="same")
    x = conv(inputs)
    y = layers.BatchNormalization()(x)
    x = layers.Add()([x, y])
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.BatchNormalization(axis=1)(x)
    x = ops.relu(x) * 2.0
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


def shared():
    inputs = keras.Input((9, 9, 4))
    conv, norm = (
        layers.Conv2D(4, 3, padding="same"),
        layers.BatchNormalization(),
    )
    x = norm(conv(norm(conv(inputs))))
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


def depthwise():
    inputs = keras.Input((9, 9, 4))
    x = layers.DepthwiseConv2D(3, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.SeparableConv2D(6, 3)(layers.Dropout(0.5)(x))
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


def padded():
    """Zero padding: folded before a valid convolution that alone takes it."""
    inputs = keras.Input((9, 10, 4))
    x = layers.ZeroPadding2D(((2, 1), (0, 3)))(inputs)
    x = layers.Conv2D(6, 3, 2, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ZeroPadding2D(1)(layers.ReLU()(x))
    x = layers.DepthwiseConv2D(3, 2, depth_multiplier=2)(x)
    x = layers.BatchNormalization()(x)
    twice = layers.ZeroPadding2D(1)(x)
    y = layers.Conv2D(5, 3)(twice)
    z = layers.DepthwiseConv2D((3, 2), use_bias=False)(twice)
    z = layers.DepthwiseConv2D(1, dilation_rate=2)(z)
    outputs = [layers.GlobalMaxPooling2D()(t) for t in (y, z)]
    x = layers.Concatenate()(outputs)
    return keras.Model(inputs, layers.Dense(5)(x))


def mobilenet():
    return keras_adaad.models.MobileNetV2((8, 8, 3), 5)


def wide():
    """Many channels over few positions: a matrix product under JAX."""
    inputs = keras.Input((7, 7, 128))
    x = layers.Conv2D(130, 3, 2, "same", dilation_rate=1)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(5, (2, 3), padding="valid")(x)
    return keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))


def resnet():
    return benchmark_networks.resnet((4, 8), (1, 1), (9, 9, 1), 5)


MODELS = [
    *(nested, sequential, branching, shared, depthwise, padded, mobilenet),
    *(wide, resnet),
]


def build(make):
    return networks.randomized(make(), seed=1)


@pytest.mark.parametrize("make", MODELS)
def test_same_logits(make):
    model = build(make)
    x = np.random.default_rng(0).uniform(size=(4, *model.input_shape[1:]))
    x = x.astype("float32")
    logits = FrozenNetwork(model, folded=True).logits(x)
    expected = model.predict_on_batch(x)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


# Which layers a graph has is decided before any backend computes.
@pytest.mark.once
@pytest.mark.parametrize(
    "make, folds",
    [
        *((nested, 3), (sequential, 1), (branching, 0), (shared, 0)),
        *((depthwise, 1), (padded, 2), (mobilenet, 57), (resnet, 6)),
    ],
)
def test_what_folds(make, folds):
    _, pairs = fold_graph(build(make))
    assert sum(norm is not None for _, norm in pairs) == folds


@pytest.mark.once
@pytest.mark.parametrize(
    "make, kept", [(padded, 1), (mobilenet, 0), (resnet, 0)]
)
def test_padding_folds(make, kept):
    graph, _ = fold_graph(build(make))
    paddings = [
        operation
        for operation in graph.operations
        if isinstance(
            getattr(operation, "layers", [None])[0], layers.ZeroPadding2D
        )
        and len(operation.layers) == 1
    ]
    assert len(paddings) == kept


@pytest.mark.once
@pytest.mark.parametrize("make", MODELS)
def test_model_is_left_alone(make):
    model = build(make)
    before = networks.snapshot(model)
    names = [layer.name for layer in model.layers]
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    fold_graph(model)
    networks.assert_same(before, networks.snapshot(model))
    assert [layer.name for layer in model.layers] == names
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes


def test_network_follows_the_weights():
    model = build(resnet)
    network = FrozenNetwork(model, folded=True)
    x = np.ones((2, 9, 9, 1), "float32")
    first = network.logits(x)
    for w in model.weights:
        w.assign(w * 1.5)
    expected = model.predict_on_batch(x)
    second = network.logits(x)
    np.testing.assert_allclose(second, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(second - first).max()


@pytest.mark.parametrize(
    "policy, digits", [("mixed_bfloat16", 8), ("mixed_float16", 11)]
)
@pytest.mark.parametrize("make", [nested, padded, resnet])
def test_lower_precision(make, policy, digits):
    exact = build(make)
    keras.config.set_dtype_policy(policy)
    model = make()
    model.set_weights(exact.get_weights())
    network = FrozenNetwork(model, folded=True)
    assert len(fold_graph(exact)[1]) == len(network.folds) > 0
    x = np.random.default_rng(0).uniform(size=(16, *model.input_shape[1:]))
    logits = network.logits(x.astype("float32"))
    expected = exact.predict_on_batch(x)
    error = np.linalg.norm(logits - expected) / np.linalg.norm(expected)
    # A few roundings to so many binary digits.
    assert 0.0 < error < 4 * 2.0**-digits


@pytest.mark.once
def test_what_computes_in_other_precision_does_not_fold():
    inputs = keras.Input((9, 9, 1))
    x = layers.Conv2D(4, 3, dtype="mixed_bfloat16")(inputs)
    x = layers.BatchNormalization(dtype="float32")(x)
    _, pairs = fold_graph(keras.Model(inputs, layers.Flatten()(x)))
    assert [norm for _, norm in pairs] == [None]
