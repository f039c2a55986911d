"""CoupledSGD is PyTorch's SGD."""

import keras
import numpy as np
import pytest
import torch

from keras_adaad.optimizers import CoupledSGD

STEPS = 20


def published(start, gradients, rates, **arguments):
    w = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=rates[0], **arguments)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        w.grad = torch.tensor(gradient)
        optimizer.step()
    return w.detach().numpy()


@pytest.fixture
def problem():
    generator = np.random.default_rng(0)
    start = generator.standard_normal((3, 4)).astype("float32")
    shape = (STEPS, 3, 4)
    return start, generator.standard_normal(shape).astype("float32")


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize(
    "momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)]
)
def test_update_is_pytorchs(problem, momentum, nesterov, weight_decay):
    start, gradients = problem
    arguments = dict(
        momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
    )
    # The drop shows whether the momentum contains the learning rate.
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [9], [0.1, 0.01]
    )
    rates = [0.1] * 10 + [0.01] * 10
    w = keras.Variable(start)
    optimizer = CoupledSGD(schedule, **arguments)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [w])
    expected = published(start, gradients, rates, **arguments)
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_excluded_variables_do_not_decay():
    decayed, excluded, named = (
        keras.Variable(np.ones(2, "float32"), name=name)
        for name in ("kernel", "other", "gamma")
    )
    variables = [decayed, excluded, named]
    optimizer = CoupledSGD(0.1, momentum=0.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([excluded], var_names=["gam"])
    optimizer.apply([keras.ops.zeros(2) for _ in variables], variables)
    values = [v.numpy()[0] for v in variables]
    np.testing.assert_allclose(values, [0.95, 1.0, 1.0])


def test_config_restores_it():
    optimizer = CoupledSGD(0.2, momentum=0.8, weight_decay=5e-4, nesterov=True)
    config = keras.optimizers.serialize(optimizer)
    restored = keras.optimizers.deserialize(config)
    assert isinstance(restored, CoupledSGD)
    assert restored.get_config() == optimizer.get_config()
    assert restored.get_config()["weight_decay"] == 5e-4


def test_in_fit(digits):
    """Under a compiled step, zero gradients leave the decay."""
    x, _ = digits
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(3))
    before = model.layers[-1].kernel.numpy()
    model.compile(CoupledSGD(0.1, momentum=0.0, weight_decay=0.5), loss=flat)
    model.fit(x[:64], np.zeros((64, 3)), batch_size=32, verbose=0)
    after = model.layers[-1].kernel.numpy()
    np.testing.assert_allclose(after, 0.95**2 * before, rtol=1e-5)


def flat(y_true, y_pred):
    return 0.0 * keras.ops.sum(y_pred, axis=-1)


@pytest.mark.parametrize("weight_decay", [-0.1, "5e-4", None])
def test_bad_weight_decay(weight_decay):
    with pytest.raises(ValueError, match="weight_decay"):
        CoupledSGD(0.1, weight_decay=weight_decay)
