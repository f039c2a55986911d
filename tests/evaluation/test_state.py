"""The state file: it belongs to one evaluation, whatever happens to it."""

import logging
import os
import warnings

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad.attacks import FGSM
from keras_adaad.attacks import PGD
from keras_adaad.evaluation.state import State
from keras_adaad.losses import cross_entropy_from_logits
from tests import networks

EPSILON = 0.05


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.npz"


@pytest.fixture(scope="module")
def model():
    """One network: tests share the programs that are compiled for it."""
    keras.utils.set_random_seed(0)
    return networks.dense_net("model")


@pytest.fixture
def evaluate(batch, path):
    """Returns a function that evaluates a model with a state file."""
    x, y = batch

    def evaluate(model, attacks=("fgsm",), x=x, y=y, **options):
        options = {
            "reliability_checks": False,
            "curve": False,
            "verbose": 0,
            "state_path": path,
            **options,
        }
        return keras_adaad.evaluate_robustness(
            model, x, y, list(attacks), EPSILON, **options
        )

    return evaluate


def refused(function, *args, **kwargs):
    with pytest.raises(ValueError, match="another evaluation.*state_path"):
        function(*args, **kwargs)


# Whose file it is.


def scaled(model, factor):
    """The same weights; the guide on evaluation shows why it matters."""
    return keras.Model(model.inputs, factor * model.outputs[0], name=model.name)


def without_gradient(model):
    """The same weights and the same logits."""
    outputs = keras.ops.stop_gradient(model.outputs[0])
    return keras.Model(model.inputs, outputs, name=model.name)


def of_another_mean(model, mean):
    return keras_adaad.models.with_normalization(model, [mean], [0.3])


def test_it_knows_the_model_by_more_than_its_weights(model, evaluate, path):
    evaluate(model)
    for other in (scaled(model, 1000.0), without_gradient(model)):
        for a, b in zip(model.weights, other.weights, strict=True):
            assert a is b
        refused(evaluate, other)
    os.remove(path)
    evaluate(of_another_mean(model, 0.5))
    refused(evaluate, of_another_mean(model, 0.4999))


def test_it_knows_weights_data_and_attacks(model, batch, evaluate):
    x, y = batch
    evaluate(model)
    refused(evaluate, model, x=x[::-1])
    refused(evaluate, model, y=(y + 1) % 10)
    refused(evaluate, model, ["pgd"])
    refused(evaluate, model, seed=1)
    refused(evaluate, model, individual=True)
    kernel = model.layers[-1].kernel
    kernel.assign(kernel + 1e-6)
    refused(evaluate, model)


def test_a_model_that_is_built_again_is_the_same(model, evaluate):
    """Keras gives other names to its layers."""
    before = evaluate(model)
    _, again = networks.dense_net(), networks.dense_net()
    again.set_weights(model.get_weights())
    assert [a.name for a in again.layers] != [a.name for a in model.layers]
    np.testing.assert_array_equal(evaluate(again).robust, before.robust)


def test_it_knows_the_results_of_the_package(model, evaluate, monkeypatch):
    """The version counts only if the results changed."""
    evaluate(model)
    monkeypatch.setattr(keras_adaad.evaluation.task, "RESULTS_SINCE", "0.9.0")
    refused(evaluate, model)


class Hidden(keras.Model):
    """A model with state that is neither a weight nor in its config."""

    def __init__(self, temperature):
        super().__init__(name="hidden")
        self.dense = networks.dense_net()
        self.temperature = temperature

    def call(self, x, training=False):
        return self.dense(x) / self.temperature


def test_it_knows_the_logits(evaluate):
    model, other = Hidden(1.0), Hidden(2.0)
    evaluate(model)
    evaluate(model, batch_size=5)
    other.build((None, *networks.SHAPE))
    other.set_weights(model.get_weights())
    refused(evaluate, other)


def rounded(network, masked):
    """Returns a model with a layer that differs from another in its code."""
    if masked:

        class Rounded(keras.layers.Layer):
            def call(self, x):
                return keras.ops.round(3.0 * x) / 3.0
    else:

        class Rounded(keras.layers.Layer):
            def call(self, x):
                rounded = keras.ops.round(3.0 * x) / 3.0
                return x + keras.ops.stop_gradient(rounded - x)

    inputs = keras.Input(networks.SHAPE, name="images")
    outputs = network(Rounded(name="rounded")(inputs))
    return keras.Model(inputs, outputs, name="model")


def test_it_knows_the_code_of_inner_layers(model, evaluate):
    """The repaired model must not have the result of the masked one."""
    evaluate(rounded(model, masked=True))
    evaluate(rounded(model, masked=True))
    refused(evaluate, rounded(model, masked=False))


def loss_of(weight):
    def loss(labels, logits):
        return weight * cross_entropy_from_logits(labels, logits)

    return loss


def own_attack(slope):
    """Returns a class that differs from another in its code alone."""

    class Own(PGD):
        def step(self, objective, x, state, setting):
            found = super().step(objective, x, state, setting)["x_adv"]
            return {"x_adv": x + slope * (found - x)}

    return Own


def test_it_knows_losses_and_attacks_of_ones_own(model, evaluate, path):
    for make in (
        lambda value: FGSM(epsilon=EPSILON, loss=loss_of(value)),
        lambda value: own_attack(value)(epsilon=EPSILON, steps=1),
    ):
        evaluate(model, [make(1.0)])
        evaluate(model, [make(1.0)])
        refused(evaluate, model, [make(-1.0)])
        os.remove(path)


# What can happen to it.


@pytest.mark.parametrize(
    "place", ["missing/state.npz", "state.npz/state.npz", "."]
)
def test_a_place_that_cannot_be_written_is_noticed_first(
    model, evaluate, tmp_path, place, monkeypatch
):
    (tmp_path / "state.npz").write_text("")
    monkeypatch.setattr(model, "call", lambda *args: pytest.fail("it ran"))
    with pytest.raises(ValueError, match="state_path.*folder"):
        evaluate(model, state_path=tmp_path / place)
    with pytest.raises(TypeError, match="state_path"):
        evaluate(model, state_path=3)


def test_a_damaged_file_is_explained(model, evaluate, path):
    evaluate(model)
    whole = path.read_bytes()
    middle = whole.index(b"x_adv.npy") + 200
    flipped = bytes([whole[middle] ^ 255])
    for damaged in (
        *(b"", b"PK", b"PK\x05\x06" + bytes(18), b"not a state"),
        *(whole[:middle], whole[:-1], whole[100:]),
        whole[:middle] + flipped + whole[middle + 1 :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="If it is damaged, delete it"):
            evaluate(model)
        assert path.read_bytes() == damaged
    np.savez(path, task="another")
    with pytest.raises(ValueError, match="an evaluation wrote"):
        evaluate(model)


@pytest.mark.once
def test_of_two_processes_the_later_one_has_the_file(path, caplog):
    x, logits = np.zeros((2, 1)), np.zeros((2, 2))
    first, second = State(path), State(path)
    first.begin("task", logits, 0.0, x)
    first.save([], x + 1, x)
    _, x_adv = second.begin("task", logits, 0.0, x)
    np.testing.assert_array_equal(x_adv, x + 1)
    kept = path.read_bytes()
    with caplog.at_level(logging.WARNING, "keras_adaad"):
        first.save([], x + 2, x)
        first.save([], x + 3, x)
    assert caplog.text.count("Another evaluation has taken") == 1
    assert path.read_bytes() == kept
    second.save([], x + 4, x)
    _, x_adv = State(path).begin("task", logits, 0.0, x)
    np.testing.assert_array_equal(x_adv, x + 4)
    # No temporary file is left.
    assert os.listdir(path.parent) == ["state.npz"]


@pytest.mark.once
def test_a_file_that_was_removed_is_written_again(path):
    x, logits = np.zeros((2, 1)), np.zeros((2, 2))
    state = State(path)
    state.begin("task", logits, 0.0, x)
    os.remove(path)
    state.save([], x + 1, x)
    _, x_adv = State(path).begin("task", logits, 0.0, x)
    np.testing.assert_array_equal(x_adv, x + 1)


@pytest.mark.once
def test_two_writers_never_leave_half_a_file(path):
    """Threads have one process number, as containers on a disk may."""
    from concurrent.futures import ThreadPoolExecutor

    x = np.zeros((50, 1000))
    states = [State(path) for _ in range(4)]

    def write(state):
        for _ in range(10):
            state.begin("task", np.zeros(1), 0.0, x)
            state.save([], x + 1, x)

    with ThreadPoolExecutor() as pool, warnings.catch_warnings():
        list(pool.map(write, states))
    State(path).begin("task", np.zeros(1), 0.0, x)
    assert os.listdir(path.parent) == ["state.npz"]
