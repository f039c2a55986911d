"""PerNetwork trains each network as its own optimizer would alone."""

import keras
import numpy as np
import pytest

from keras_adaad.optimizers import CoupledSGD
from keras_adaad.optimizers import PerNetwork
from tests import networks


def optimizers():
    return {
        "first": CoupledSGD(0.1, momentum=0.9, weight_decay=0.1),
        "second": keras.optimizers.Adam(0.05, weight_decay=0.2),
    }


@pytest.fixture
def pair():
    models = {name: networks.dense_net(name) for name in ("first", "second")}
    for model in models.values():  # Not those of the initializers.
        model.set_weights([w + 0.3 for w in model.get_weights()])
    return models


def gradients_of(variables, steps):
    generator = np.random.default_rng(0)
    for _ in range(steps):
        yield [
            keras.ops.convert_to_tensor(
                generator.standard_normal(v.shape).astype("float32")
            )
            for v in variables
        ]


def apply(optimizer, gradients, variables):
    """Takes a step, as Keras does on each backend."""
    if keras.config.backend() != "jax":
        optimizer.apply(gradients, variables)
        return
    values, state = optimizer.stateless_apply(
        [v.value for v in optimizer.variables],
        gradients,
        [v.value for v in variables],
    )
    pairs = [*zip(variables, values, strict=True)]
    for variable, value in [
        *pairs,
        *zip(optimizer.variables, state, strict=True),
    ]:
        variable.assign(value)


def test_each_network_takes_the_steps_of_its_optimizer(pair):
    # In an order in which the networks alternate.
    variables = [
        v
        for both in zip(
            *(model.trainable_variables for model in pair.values()), strict=True
        )
        for v in both
    ]
    copies = {name: keras.models.clone_model(m) for name, m in pair.items()}
    alone = optimizers()
    for name, copy in copies.items():
        copy.set_weights(pair[name].get_weights())
        alone[name].build(copy.trainable_variables)
    optimizer = PerNetwork(optimizers(), lambda: pair)
    optimizer.build(variables)
    start = pair["second"].get_weights()
    for step, gradients in enumerate(gradients_of(variables, 5)):
        # The second one begins later, and rests once.
        optimizer.idle = ("second",) if step in (0, 1, 3) else ()
        apply(optimizer, gradients, variables)
        for i, name in enumerate(pair):
            if name not in optimizer.idle:
                apply(
                    *(alone[name], gradients[i::2]),
                    copies[name].trainable_variables,
                )
        if step == 1:
            networks.assert_same(start, pair["second"].get_weights())
    for name, copy in copies.items():
        for ours, theirs in zip(
            pair[name].get_weights(), copy.get_weights(), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    steps = [int(part.iterations) for part in optimizer.parts.values()]
    assert steps == [5, 2] and int(optimizer.iterations) == 5


@pytest.mark.skipif(
    keras.config.backend() == "jax", reason="Keras itself refuses it."
)
def test_layers_may_be_frozen_later(pair):
    variables = [v for m in pair.values() for v in m.trainable_variables]
    optimizer = PerNetwork(optimizers(), lambda: pair)
    optimizer.build(variables)
    before = [keras.ops.convert_to_numpy(v) for v in variables]
    (gradients,) = gradients_of(variables, 1)
    apply(optimizer, gradients[1:], variables[1:])
    moved = [
        not np.array_equal(old, keras.ops.convert_to_numpy(v))
        for old, v in zip(before, variables, strict=True)
    ]
    assert moved == [False] + [True] * (len(variables) - 1)


def test_its_learning_rate_is_that_of_the_first():
    optimizer = PerNetwork(optimizers())
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    optimizer.learning_rate = 0.7
    rates = [float(p.learning_rate) for p in optimizer.parts.values()]
    np.testing.assert_allclose(rates, [0.7, 0.05])


def test_config_restores_it():
    optimizer = PerNetwork({**optimizers(), "third": "sgd"})
    config = keras.optimizers.serialize(optimizer)
    restored = keras.optimizers.deserialize(config)
    assert isinstance(restored, PerNetwork)
    assert restored.get_config() == optimizer.get_config()
    assert list(restored.parts) == ["first", "second", "third"]


def test_bad_optimizers_are_named(pair):
    sgd = keras.optimizers.SGD(0.1)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    for error, given, message in (
        (TypeError, [sgd, "adam"], "`optimizers` must be a dict"),
        (ValueError, {}, "an empty dict"),
        (TypeError, {"first": 0.1}, "'first' must be"),
        (ValueError, {"first": "descent"}, "descent"),
        (ValueError, {"first": sgd, "second": sgd}, "twice"),
        (ValueError, {"first": scaled}, "must not contain others"),
        (
            ValueError,
            {"first": keras.optimizers.SGD(0.1, use_ema=True)},
            "`use_ema`",
        ),
        (
            ValueError,
            {"first": keras.optimizers.SGD(0.1, loss_scale_factor=8.0)},
            "`loss_scale_factor`",
        ),
    ):
        with pytest.raises(error, match=message):
            PerNetwork(given)
    variables = pair["first"].trainable_variables
    with pytest.raises(ValueError, match="does not know its networks"):
        PerNetwork({"first": "sgd"}).build(variables)
    with pytest.raises(ValueError, match="the same names"):
        PerNetwork({"first": "sgd"}, lambda: pair).build(variables)
    other = networks.dense_net().trainable_variables
    optimizer = PerNetwork(optimizers(), lambda: pair)
    with pytest.raises(ValueError, match="No network among first, second"):
        optimizer.build([*variables, *other])
    optimizer.build(variables)
    with pytest.raises(ValueError, match="one gradient.*Received: 1"):
        optimizer.apply([None])
    with pytest.raises(ValueError, match="before this variable"):
        optimizer.apply([None], other[:1])
    with pytest.raises(ValueError, match="its `parts`: first, second"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])
