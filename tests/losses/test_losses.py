"""Every loss against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_adaad
from keras_adaad import losses


@pytest.fixture
def logits():
    return 3.0 * np.random.default_rng(0).normal(size=(2, 6, 10))


def softmax(z):
    exponentials = np.exp(z - z.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_divergence(logits, temperature):
    target, predicted = logits
    p, q = softmax(target / temperature), softmax(predicted / temperature)
    value = losses.kl_divergence_from_logits(
        ops.convert_to_tensor(target),
        ops.convert_to_tensor(predicted),
        temperature,
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(value), (p * np.log(p / q)).sum(-1), rtol=1e-4
    )


def test_kl_divergence_of_saturated_logits_is_finite():
    target = ops.convert_to_tensor([[200.0, 0.0, -200.0]])
    predicted = ops.convert_to_tensor([[-200.0, 0.0, 200.0]])
    value = losses.kl_divergence_from_logits(target, predicted)
    np.testing.assert_allclose(ops.convert_to_numpy(value), [400.0], rtol=1e-5)


def test_entropy(logits):
    p = softmax(logits[0])
    value = losses.entropy_from_logits(ops.convert_to_tensor(logits[0]))
    expected = -(p * np.log(p)).sum(-1)
    np.testing.assert_allclose(ops.convert_to_numpy(value), expected, rtol=1e-4)


@pytest.mark.parametrize("form", ["indices", "column", "one-hot", "soft"])
def test_cross_entropy(logits, form):
    logits = logits[0]
    y = np.array([0, 3, 9, 2, 2, 5])
    probabilities = np.eye(10)[y]
    labels = {"indices": y, "column": y[:, None]}.get(form, probabilities)
    if form == "soft":
        labels = probabilities = 0.9 * probabilities + 0.01
    value = losses.cross_entropy_from_logits(
        ops.convert_to_tensor(labels), ops.convert_to_tensor(logits)
    )
    expected = -(probabilities * np.log(softmax(logits))).sum(-1)
    np.testing.assert_allclose(ops.convert_to_numpy(value), expected, rtol=1e-4)
    indices = losses.label_indices(ops.convert_to_tensor(labels), logits)
    np.testing.assert_array_equal(ops.convert_to_numpy(indices), y)


def test_cross_entropies_of_other_shapes_are_means(logits):
    """Of classes at each pixel, and of several labels."""
    generator = np.random.default_rng(1)
    y = generator.integers(0, 10, logits.shape[:2])
    picked = np.take_along_axis(softmax(logits), y[..., None], -1)[..., 0]
    for labels in (y, y[..., None], np.eye(10)[y]):
        value = losses.cross_entropy_from_logits(
            ops.convert_to_tensor(labels), ops.convert_to_tensor(logits)
        )
        expected = -np.log(picked).mean(-1)
        np.testing.assert_allclose(ops.convert_to_numpy(value), expected, 1e-4)

    y = generator.integers(0, 2, logits.shape)
    p = 1 / (1 + np.exp(-logits))
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean((1, 2))
    value = losses.binary_cross_entropy_from_logits(
        ops.convert_to_tensor(y), ops.convert_to_tensor(logits)
    )
    np.testing.assert_allclose(ops.convert_to_numpy(value), expected, 1e-4)


def test_gradient_of_a_confident_label_is_not_zero():
    gradient = keras_adaad.input_gradient(
        lambda z: losses.binary_cross_entropy_from_logits(
            ops.convert_to_tensor([[1.0, 0.0]]), z
        ),
        ops.convert_to_tensor([[30.0, -30.0]]),
    )
    expected = np.array([[-0.5, 0.5]]) * np.exp(-30.0)
    np.testing.assert_allclose(ops.convert_to_numpy(gradient), expected, 1e-4)


@pytest.mark.parametrize("weights", [None, [0.0, 1.0, 2.0]])
def test_batch_mean(weights):
    values = np.array([1.0, 4.0, 2.0], "float32")
    mean = losses.BatchMean().of(ops.convert_to_tensor(values), weights)
    expected = np.mean(values * np.array(weights or 1.0))
    assert float(mean) == pytest.approx(expected)


def test_batch_mean_is_serializable():
    config = keras.saving.serialize_keras_object(losses.BatchMean())
    restored = keras.saving.deserialize_keras_object(config)
    assert isinstance(restored, losses.BatchMean)
