"""Functions in the place of models: what no gradient needs attacks them."""

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad import attacks
from keras_adaad.frozen.function import FunctionClassifier
from tests.oracles import attacks as oracles

NORMS = oracles.NORMS


class Function:
    """A model behind a function that counts its calls."""

    def __init__(self, model):
        self.model = model
        self.calls = 0

    def __call__(self, x):
        assert type(x) is np.ndarray and x.dtype == np.float32
        self.calls += 1
        return self.model.predict_on_batch(x)


def square(norm="linf", **arguments):
    arguments = {"queries": 120, "seed": 0, **arguments}
    return attacks.Square(epsilon=oracles.EPSILON[norm], norm=norm, **arguments)


def logits_of_a_line(x):
    """Logits of ten classes, of nothing but NumPy."""
    weights = np.random.default_rng(0).normal(size=(64, 10))
    return x.reshape(len(x), -1) @ weights


@pytest.mark.parametrize("norm", NORMS)
def test_the_search_is_that_on_the_keras_model(norm):
    model, _ = oracles.trained_pair()
    x, y = oracles.trained_batch(32)
    attack, function, moved = square(norm), Function(model), []
    expected, expected_moved = oracles.steps_taken(attack, model, x, y)
    found = attack._run(
        FunctionClassifier(function, 10),
        x,
        y,
        seed=0,
        batch_size=len(x),
        stop=lambda images: moved.append(images) is not None,
    )
    assert 0 < expected.fooled.sum() < len(x)
    np.testing.assert_array_equal(found.fooled, expected.fooled)
    assert oracles.share_close(found.x_adv, expected.x_adv) > 0.9
    # As many queries, and two more in each round of 100: start and verdict.
    assert moved == expected_moved
    assert function.calls == len(moved) + 2 * 2


def test_what_the_function_returns_and_does_with_its_images():
    x, y = oracles.trained_batch(12)
    attack = square(queries=20)
    model, _ = oracles.trained_pair()

    def moves_its_images(x):
        logits = model.predict_on_batch(x)
        x[:] = 0.5
        return logits.astype("float64")

    def returns_a_tensor(x):
        return model(keras.ops.convert_to_tensor(x), training=False)

    expected = attack(model, x, y)
    assert np.abs(expected - x).max() > 0.01
    for function in (moves_its_images, returns_a_tensor):
        found = attack(function, x, y, batch_size=5)
        assert oracles.share_close(found, expected) > 0.9


@pytest.mark.parametrize("name", ["fgsm", "pgd", "cw", "apgd-t", "fab", "fmn"])
def test_attacks_that_follow_the_gradient_say_so(name):
    x, y = oracles.smooth_batch()
    attack = attacks.get(name, epsilon=0.1)
    with pytest.raises(TypeError, match="Square.*" + type(attack).__name__):
        attack(logits_of_a_line, x, y)


def test_autoattack_is_not_run_in_part():
    x, y = oracles.smooth_batch()
    function = Function(oracles.smooth_pair()[0])
    with pytest.raises(TypeError, match="function has none"):
        attacks.AutoAttack(epsilon=0.1)(function, x, y)
    with pytest.raises(TypeError, match="apgd-ce"):
        keras_adaad.evaluate_robustness(function, x, y, ["autoattack"])
    assert function.calls == 0


def test_what_is_refused():
    x, y = oracles.smooth_batch()
    attack = square()
    with pytest.raises(TypeError, match="keras.Model.*function.*student"):
        attack("student.tflite", x, y)

    def softmax(x):
        z = np.exp(logits_of_a_line(x))
        return z / z.sum(-1, keepdims=True)

    with pytest.raises(ValueError, match="probabilities"):
        attack(softmax, x, y)
    for function in (
        lambda x: logits_of_a_line(x)[0],
        lambda x: logits_of_a_line(x)[:, :1],
        lambda x: logits_of_a_line(x[:3]),
    ):
        with pytest.raises(ValueError, match="batch_size, num_classes"):
            attack(lambda x, f=function: f(x)[:2], x, y)
    with pytest.raises(ValueError, match="class indices"):
        attack(logits_of_a_line, x, y + 10)


# The evaluation.


def evaluate(function, attack=None, **options):
    x, y = oracles.trained_batch(48)
    options = {"curve": False, "verbose": 0, **options}
    epsilon = oracles.EPSILON["linf"]
    return keras_adaad.evaluate_robustness(
        function, x, y, [attack or square()], epsilon, **options
    )


def test_report_of_a_function():
    """The verdicts are the model's, and what has a gradient is left out."""
    model, _ = oracles.trained_pair()
    function = Function(model)
    report = evaluate(function, curve=True)
    expected = evaluate(model, reliability_checks=False)
    assert 0.0 < report.robust_accuracy < report.clean_accuracy
    np.testing.assert_array_equal(report.clean, expected.clean)
    np.testing.assert_array_equal(report.robust, expected.robust)
    assert report.model_name == "Function"
    assert set(report.flags) == {"weak_attacks"}  # So few queries.
    assert report.curve is None and "dtype" not in report.environment
    low, high = keras_adaad.evaluation.wilson_interval(
        report.robust.sum(), len(report.robust)
    )
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in str(report)
    comparison = report.compare(expected)
    assert comparison.same_attacks and comparison.robust.p_value == 1.0


def test_default_attacks_are_refused_before_any_call():
    x, y = oracles.trained_batch(8)
    function = Function(oracles.trained_pair()[0])
    with pytest.raises(TypeError, match="fgsm, pgd, cw"):
        keras_adaad.evaluate_robustness(function, x, y)
    with pytest.raises(ValueError, match="curve"):
        evaluate(function, curve=[0.1])
    assert function.calls == 0


def test_probabilities_and_randomness_are_flagged():
    generator = np.random.default_rng(0)

    def probabilities(x):
        z = np.exp(oracles.trained_pair()[0].predict_on_batch(x))
        return z / z.sum(-1, keepdims=True)

    with pytest.raises(ValueError, match="probabilities"):
        evaluate(probabilities)
    report = evaluate(
        probabilities, square(queries=2), allow_probabilities=True
    )
    assert list(report.flags) == ["probabilities", "weak_attacks"]

    def random(x):
        return logits_of_a_line(x) + generator.normal(size=(len(x), 10))

    assert "randomness" in evaluate(random, square(queries=2)).flags


def test_resuming_knows_the_function_by_its_logits(tmp_path):
    path = tmp_path / "state.npz"
    function = Function(oracles.trained_pair()[0])
    first = evaluate(function, state_path=path, reliability_checks=False)
    function.calls = 0
    again = evaluate(function, state_path=path, reliability_checks=False)
    np.testing.assert_array_equal(again.robust, first.robust)
    # Number of classes, clean logits, those of the images found, and those of
    # the points between.
    assert function.calls == 4
    with pytest.raises(ValueError, match="another evaluation"):
        evaluate(logits_of_a_line, state_path=path)
