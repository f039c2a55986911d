"""One step of SGD moves the Keras network as it moves PyTorch's."""

import keras
import numpy as np
import pytest
import torch

import keras_adaad
from keras_adaad import models
from keras_adaad.zoo.conversion import _places
from keras_adaad.zoo.conversion import load_state_dict
from tests.oracles import networks as published

SGD = dict(momentum=0.9, weight_decay=5e-4)
BATCH, SIZE = 2, 32


@pytest.fixture
def float64():
    """In float32, a rounding that turns one ReLU on or off is the 1e-3."""
    if keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    if keras.config.backend() == "jax":
        jax.config.update("jax_enable_x64", False)


def test_a_step_of_resnet18(float64):
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 1, (BATCH, 3, SIZE, SIZE))
    y = generator.integers(0, 10, BATCH)
    torch.manual_seed(0)
    net = published.resnet([2, 2, 2, 2]).double()
    before = {k: v.clone().numpy() for k, v in net.state_dict().items()}
    model = models.ResNet18()
    load_state_dict(model, before)

    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, **SGD)
    loss = torch.nn.functional.cross_entropy(
        net(torch.tensor(x)), torch.tensor(y)
    )
    loss.backward()
    optimizer.step()
    expected = {k: v.numpy() for k, v in net.state_dict().items()}

    model.compile(
        keras_adaad.optimizers.CoupledSGD(0.1, **SGD),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    found = model.train_on_batch(np.moveaxis(x, 1, -1), y)
    assert abs(float(found) - loss.item()) < 1e-5 * loss.item()

    for name, (variable, axes) in _places(model).items():
        moved = variable.numpy() - np.transpose(before[name], axes)
        should = np.transpose(expected[name] - before[name], axes)
        if name.endswith("running_var"):
            # PyTorch averages the unbiased variance, Keras the biased one.
            count = BATCH * map_size(name) ** 2
            old = before[name]
            should = (should + 0.1 * old) * (count - 1) / count - 0.1 * old
        size = np.linalg.norm(should)
        assert size > 0, name
        # Keras 3.16 adds float64 tensors in float32 on PyTorch.
        assert np.linalg.norm(moved - should) < 5e-4 * size, name


def map_size(name):
    """Returns the size of the feature maps that a BatchNorm sees."""
    stage = int(name[5]) if name.startswith("layer") else 1
    return SIZE // 2 ** (stage - 1)
