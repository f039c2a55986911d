"""Probabilities are told from logits, whatever the precision of the softmax."""

import ml_dtypes
import numpy as np
import pytest

from keras_adaad.checks.models import are_probabilities

pytestmark = pytest.mark.once


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
def test_a_softmax_is_one(dtype):
    generator = np.random.default_rng(0)
    for classes in (2, 10, 1000):
        logits = 3.0 * generator.standard_normal((200, classes))
        outputs = np.exp(logits - logits.max(-1, keepdims=True))
        outputs = (outputs / outputs.sum(-1, keepdims=True)).astype(dtype)
        assert are_probabilities(outputs.astype("float32"))


@pytest.mark.parametrize("classes", [10, 100, 200])
def test_a_softmax_in_int8_is_one(classes):
    logits = np.random.default_rng(0).standard_normal((200, classes))
    outputs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    outputs = np.round(256 * outputs) / 256
    assert np.abs(outputs.sum(-1) - 1.0).max() > 0.003
    assert are_probabilities(outputs.astype("float32"))


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_zeros_are_not(classes):
    assert not are_probabilities(np.zeros((3, classes), "float32"))


@pytest.mark.parametrize(
    "logits",
    [
        [[0.2, 0.8], [0.3, 0.5]],
        [[0.2, 0.8], [-0.3, 1.3]],
        [[1.0, 0.5, 0.25]],
    ],
)
def test_logits_are_not(logits):
    assert not are_probabilities(np.array(logits, "float32"))
