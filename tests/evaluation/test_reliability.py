"""Each way of hiding a gradient raises its flag; an honest net raises none."""

import dataclasses
import functools
import logging

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_adaad
from keras_adaad.attacks import CW
from keras_adaad.attacks import PGD
from keras_adaad.attacks import Square
from keras_adaad.evaluation import curve
from keras_adaad.evaluation import evaluate
from keras_adaad.evaluation.reliability import reduced_precision
from keras_adaad.frozen.classifier import Classifier
from tests import networks
from tests.oracles import attacks as oracles

EPSILON = 0.1


@pytest.fixture(scope="module")
def data():
    x, y = oracles.digits()
    return oracles.to_keras(x[1300:1364]), y[1300:1364].numpy()


def flags(model, data, attacks=("pgd-20-sat",), **options):
    report = keras_adaad.evaluate_robustness(
        model,
        *data,
        list(attacks),
        EPSILON,
        **{"batch_size": 64, "verbose": 0, **options},
    )
    assert report.reliable == (not report.flags)
    for name, message in report.flags.items():
        assert f"FLAG {name}" in str(report) and len(message) > 30
    return report


class AlwaysOn(layers.Layer):
    """Runs a layer in training mode whatever the mode of the model."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x, training=True)


def wrapped(before=lambda x: x, after=lambda z: z, name=None):
    """Returns the trained network with something before or after it."""
    inputs = keras.Input(oracles.SHAPE)
    model = oracles.trained_pair()[0]
    return keras.Model(inputs, after(model(before(inputs))), name=name)


@functools.cache
def with_large_logits():
    """Returns one network: tests share the programs compiled for it."""
    return wrapped(after=lambda z: 1000.0 * z)


def test_an_honest_network_raises_none(data):
    report = flags(
        oracles.trained_pair()[0],
        data,
        ["pgd-20-sat", Square(epsilon=EPSILON, queries=100)],
    )
    assert report.flags == {} and report.reliable
    assert report.curve["accuracy"][-1] < 0.05


def test_large_logits(data, caplog):
    """Scaled by 1000, cross-entropy has no gradient; the DLR loss does."""
    honest = flags(oracles.trained_pair()[0], data)
    with caplog.at_level(logging.WARNING, "keras_adaad"):
        report = flags(with_large_logits(), data)
    assert "gradients" in report.flags
    assert "cross-entropy" in report.flags["gradients"]
    assert "DLR" not in report.flags["gradients"]
    assert "large_epsilon" in report.flags
    assert report.robust_accuracy > honest.robust_accuracy + 0.1
    assert "gradients" in caplog.text
    short = flags(with_large_logits(), data, curve=False)
    assert "large_epsilon" in short.flags and short.curve is None
    dlr = flags(
        with_large_logits(),
        data,
        [PGD(epsilon=EPSILON, steps=20, loss="dlr")],
        curve=False,
    )
    assert dlr.robust_accuracy < report.robust_accuracy - 0.1


def test_quantised_input(data):
    report = flags(
        wrapped(before=lambda x: ops.round(3.0 * x) / 3.0),
        data,
        ["pgd-20-sat", Square(epsilon=EPSILON, queries=200)],
    )
    assert {"gradients", "black_box"} <= set(report.flags)
    assert "100 %" in report.flags["gradients"]


# With Keras 3.16, `training=True` of one layer's call holds for the layers
# after it. `evaluate_robustness` then warns that it runs the model as it is.
keras_lets_training_leak = pytest.mark.filterwarnings(
    "ignore:the graph that stands for"
)


@keras_lets_training_leak
def test_dropout_left_on(data):
    report = flags(wrapped(before=AlwaysOn(layers.Dropout(0.3))), data)
    assert "randomness" in report.flags
    assert "autoattack-rand" in report.flags["randomness"]


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="Keras rejects such a layer"
)
def test_noise_without_a_seed(data):
    """Keras's global generator decides it, which is no variable of a model."""

    class Noise(layers.Layer):
        def call(self, x):
            return x + 0.1 * keras.random.normal(ops.shape(x))

    model = wrapped(before=Noise())
    assert "randomness" in flags(model, data, curve=False).flags
    # A new generator, as a new session has.
    keras.utils.clear_session()
    assert "randomness" in flags(model, data, curve=False).flags


def test_softmax_head(data):
    model = wrapped(after=lambda z: ops.softmax(100.0 * z))
    with pytest.raises(ValueError, match="softmax"):
        flags(model, data)
    report = flags(model, data, allow_probabilities=True)
    assert {"probabilities", "gradients"} <= set(report.flags)


@keras_lets_training_leak
def test_batch_statistics(data):
    report = flags(
        wrapped(before=AlwaysOn(layers.BatchNormalization())), data, ["fgsm"]
    )
    assert "batch_dependence" in report.flags


def test_reduced_precision(data):
    inputs = keras.Input(oracles.SHAPE)
    x = layers.Flatten()(inputs)
    outputs = layers.Dense(10, dtype="mixed_bfloat16")(x)
    report = flags(keras.Model(inputs, outputs), data, ["fgsm"])
    assert "bfloat16" in report.flags["reduced_precision"]


@pytest.mark.once
def test_reduced_precision_within_a_layer():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = {"dense": layers.Dense(10, dtype="mixed_bfloat16")}

        def call(self, x):
            return self.inner["dense"](x)

    model = keras.Sequential([keras.Input((4,)), Block()])
    assert "bfloat16" in reduced_precision(model)


def test_gradients_are_checked_batch_by_batch(data, monkeypatch):
    """All at once would take more memory than the attacks."""
    sizes = []
    program = Classifier.program

    def watched(classifier, key, function):
        compiled = program(classifier, key, function)
        if key[0] != "gradients":
            return compiled
        return lambda x, y: sizes.append(len(x)) or compiled(x, y)

    monkeypatch.setattr(Classifier, "program", watched)
    options = {"curve": False, "batch_size": 16}
    report = flags(with_large_logits(), data, ["fgsm"], **options)
    assert max(sizes) == 16 and len(sizes) > 2
    # As in `test_large_logits`, where one batch holds all images.
    assert "DLR" not in report.flags["gradients"]


def test_what_was_not_checked_is_not_reliable(data, monkeypatch):
    """Without the checks, or with a time budget that leaves no time."""
    model = oracles.trained_pair()[0]
    options = {"curve": False, "verbose": 0, "batch_size": 64}
    report = keras_adaad.evaluate_robustness(
        model, *data, ["fgsm"], EPSILON, reliability_checks=False, **options
    )
    assert not report.flags and not report.checked and not report.reliable
    run_stages = evaluate.run_stages

    def until_the_time_is_up(task):
        return dataclasses.replace(run_stages(task), in_time=False)

    monkeypatch.setattr(evaluate, "run_stages", until_the_time_is_up)
    report = keras_adaad.evaluate_robustness(
        model, *data, ["fgsm"], EPSILON, time_budget=1e6, **options
    )
    assert report.complete and not report.checked and not report.reliable
    assert "Not all reliability checks were run" in str(report)


def test_pgd_that_has_not_converged(data):
    slow = PGD(epsilon=EPSILON, step_size=0.008, steps=5, start=None)
    report = flags(oracles.trained_pair()[0], data, [slow])
    assert set(report.flags) == {"weak_attacks"}


WEAK = [
    # The step was meant for images in [0, 1].
    PGD(epsilon=EPSILON, step_size=EPSILON / 255, steps=20),
    PGD(epsilon=EPSILON, steps=1, start=None),
    CW(epsilon=EPSILON, steps=1, step_size=EPSILON / 50),
    Square(epsilon=EPSILON, queries=3),
    "fgsm",
]


@pytest.mark.parametrize(
    "attack",
    [
        WEAK[0],
        *(pytest.param(a, marks=pytest.mark.once) for a in WEAK[1:4]),
        WEAK[4],
    ],
    ids=range(len(WEAK)),
)
def test_weak_attacks(data, attack):
    """Whatever their names say."""
    model = oracles.trained_pair()[0]
    report = flags(model, data, [attack], curve=False)
    assert set(report.flags) == {"weak_attacks"} and not report.reliable
    strong = flags(model, data, ["pgd"], curve=False)
    assert strong.robust_accuracy < report.robust_accuracy - 0.01


def test_a_weak_attack_before_a_strong_one(data):
    model = oracles.trained_pair()[0]
    report = flags(model, data, [WEAK[0], "apgd-ce"], curve=False)
    assert report.flags == {}


def test_a_slow_curve_leaves_no_check_out(data, monkeypatch):
    """The time budget ends while the curve is measured."""
    measure = evaluate.measure_curve

    def measure_slowly(task, findings):
        curve = measure(task, findings)
        monkeypatch.setattr(type(task), "in_time", lambda task: False)
        return curve

    monkeypatch.setattr(evaluate, "measure_curve", measure_slowly)
    slow = PGD(epsilon=EPSILON, step_size=0.008, steps=5, start=None)
    model = oracles.trained_pair()[0]
    report = flags(model, data, [slow], time_budget=1e6)
    assert set(report.flags) == {"weak_attacks"}


@keras_lets_training_leak
def test_unstable_verdicts_of_a_random_model(data):
    """What fooled one draw of the noise need not fool the next."""
    report = flags(wrapped(before=AlwaysOn(layers.GaussianNoise(0.3))), data)
    assert {"randomness", "unstable"} <= set(report.flags)


def test_a_point_outside_the_ball_does_not_count(data):
    class TooFar(PGD):
        def result(self, x, state, setting):
            return ops.clip(state["x_adv"] + 0.2, 0.0, 1.0)

    attack = TooFar(epsilon=EPSILON, steps=1)
    model = oracles.trained_pair()[0]
    report = flags(model, data, [attack], reliability_checks=False, curve=False)
    x_adv = attack(model, *data)
    wrong = model.predict(x_adv, verbose=0).argmax(-1) != data[1]
    assert (report.clean & wrong).any()
    assert report.max_perturbation <= EPSILON + 1e-6
    np.testing.assert_array_equal(report.robust, report.clean)


def test_gradients_that_mislead():
    """A fast sine is as small as rounding to 8 bits, and its slope is not."""
    model, (x, y) = oracles.trained_pair()[0], oracles.trained_batch(64)
    inputs = keras.Input(model.input_shape[1:])
    waves = inputs + 0.004 * keras.ops.sin(9000.0 * inputs)
    for network, flagged in (
        (model, False),
        (keras.Model(inputs, model(waves)), True),
    ):
        report = keras_adaad.evaluate_robustness(
            *(network, x, y, ["fgsm"], 0.1), curve=False, verbose=0
        )
        found = report.flags.get("gradients", "")
        assert ("misleads the attacks" in found) == flagged


@pytest.mark.once
def test_the_sample_is_of_the_whole_data_set():
    places = np.arange(5000)
    drawn = curve.sampled(places)
    assert len(set(drawn)) == curve.SAMPLE
    assert (np.diff(drawn) > 0).all() and drawn.max() > 4500
    np.testing.assert_array_equal(curve.sampled(places), drawn)
    np.testing.assert_array_equal(curve.sampled(places[:9], 10), places[:9])


@pytest.mark.once
def test_few_queries_of_a_function(batch):
    model = networks.dense_net()

    def function(x):
        return model.predict(x, verbose=0)

    for queries, weak in ((10, True), (1000, False)):
        square = keras_adaad.attacks.Square(
            epsilon=1e-4, queries=queries, seed=0
        )
        x, y = batch[0], model.predict(batch[0], verbose=0).argmax(-1)
        report = keras_adaad.evaluate_robustness(
            *(function, x[:4], y[:4], [square], 1e-4), verbose=0
        )
        assert ("weak_attacks" in report.flags) == weak
