"""What stands for a model has its logits, whatever the model is made of."""

import keras
import numpy as np
import pytest

from keras_adaad.frozen.network import check_network
from keras_adaad.frozen.network import tolerance
from tests import networks
from tests.frozen.architectures import ARCHITECTURES
from tests.frozen.architectures import CLASSES

# No graph stands for these: a call of their own, or quantized layers.
AS_THEY_ARE = {"subclassed", "own-call", "int8", "int8-dense", "int4", "float8"}


def randomized(model, deep):
    """Gives float variables values unlike those they begin with."""
    generator = np.random.default_rng(1)
    for variable in model.weights:
        if keras.backend.is_float_dtype(variable.dtype):
            scale = generator.uniform(0.8, 1.25, tuple(variable.shape))
            shift = generator.uniform(-0.1, 0.1, tuple(variable.shape))
            if len(variable.shape) > 1:
                # Deep networks lose their images without larger kernels.
                scale, shift = (4.0 if deep else 1.0) * scale, 0.0
            value = keras.ops.convert_to_numpy(variable).astype("float32")
            variable.assign(value * scale + shift)
    return model


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_same_logits(name):
    model = ARCHITECTURES[name]()
    shape = getattr(model, "input_shape", None) or (None, 8, 8, 3)
    generator = np.random.default_rng(0)
    x = generator.uniform(-0.5, 1.0, size=(3, *shape[1:])).astype("float32")
    if not model.built:
        model(x, training=False)
    if name not in ("adapted-normalization", "float8"):
        randomized(model, deep="mobile" in name)
    expected = networks.logits(model, x).astype("float32")
    assert expected.shape == (3, CLASSES)
    assert np.abs(expected - expected[:1]).max() > 1e-3
    network = check_network(model, x)
    allowed = tolerance(model) * np.abs(expected).max()
    np.testing.assert_allclose(
        network.logits(x), expected, rtol=0.0, atol=allowed
    )
    assert (network.graph is None) == (name in AS_THEY_ARE)
