"""NaN, from a model or from its gradient: never taken for a result."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_adaad
from keras_adaad import attacks
from tests.oracles import attacks as oracles

EPSILON = oracles.EPSILON["linf"]


def with_term(term):
    """Returns the trained network with a term of the images in its logits."""
    model = oracles.trained_pair()[0]
    x = keras.Input(model.input_shape[1:])
    return keras.Model(x, model(x) + term(x))


def nan_where_bright(x):
    """Finite on digits, NaN where a corner, black in each, is not."""
    corner = ops.reshape(x[:, 0, 0, 0], (-1, 1))
    return 0.0 * ops.sqrt(0.02 - corner)


def nan_gradient(x):
    """Nearly zero, with an infinite gradient where the corner is black."""
    corner = ops.reshape(x[:, 0, 0, 0], (-1, 1))
    return 1e-30 * ops.sqrt(corner) * np.arange(10, dtype="float32")


def root_of_nothing(x):
    """Zero, with a gradient of NaN: zero times infinity."""
    return ops.sqrt(ops.sum(0.0 * x, axis=(1, 2, 3)))[:, None]


def evaluate(model, names, **options):
    x, y = oracles.trained_batch(16)
    found = [n if not isinstance(n, str) else short(n) for n in names]
    options = {
        "curve": False,
        "reliability_checks": False,
        "verbose": 0,
        **options,
    }
    return keras_adaad.evaluate_robustness(
        model, x, y, found, found[0].epsilon, **options
    )


def short(name):
    arguments = {"epsilon": EPSILON, "seed": 0}
    return {
        "fgsm": lambda: attacks.FGSM(epsilon=EPSILON),
        "pgd": lambda: attacks.PGD(steps=4, start=None, **arguments),
        "cw": lambda: attacks.CW(steps=4, **arguments),
        "apgd": lambda: attacks.APGD(steps=4, **arguments),
        "fab": lambda: attacks.FAB(steps=4, targets=2, **arguments),
        "fmn": lambda: attacks.FMN(epsilon=EPSILON, steps=4),
    }[name]()


@pytest.mark.parametrize("name", ["fgsm", "pgd", "cw", "apgd", "fab", "fmn"])
def test_a_search_that_met_nan_is_flagged(name):
    report = evaluate(with_term(nan_where_bright), [name])
    (result,) = report.results
    assert not report.reliable
    assert (
        f"{type(short(name)).__name__.lower()}: "
        in (report.flags["lost_points"])
    )
    # What it fooled, it fooled by finite logits.
    assert set(result.lost) <= set(np.flatnonzero(result.robust))
    x_adv = report.images["adversarial"]
    assert np.isfinite(x_adv).all()
    logits = with_term(nan_where_bright).predict(x_adv, verbose=0)
    assert np.isfinite(logits).all()
    assert (logits.argmax(-1) == report.labels).tolist() == (
        report.robust.tolist()
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_gradient_of_nan_is_flagged(tmp_path):
    path = tmp_path / "state.npz"
    model = with_term(nan_gradient)
    attack = attacks.PGD(epsilon=0.5, norm="l2", steps=2, start=None)
    options = {"norm": "l2", "state_path": path}
    report = evaluate(model, [attack], **options)
    assert report.robust_accuracy == report.clean_accuracy
    assert report.results[0].lost == np.flatnonzero(report.clean).tolist()
    assert "Evaluate a float32 copy" in report.flags["lost_points"]
    # It is kept in the state, and in the report's file.
    assert evaluate(model, [attack], **options).flags == report.flags
    report.save(tmp_path / "report.json")
    loaded = type(report).load(tmp_path / "report.json")
    assert loaded.results[0].lost == report.results[0].lost
    x, y = map(np.asarray, oracles.trained_batch(16))
    x, y = x[report.clean], y[report.clean]
    with pytest.warns(UserWarning, match=f"NaN.* {len(x)} images"):
        np.testing.assert_array_equal(attack(model, x, y), x)
    checked = evaluate(model, ["fgsm"], reliability_checks=True)
    assert "100 % of the images" in checked.flags["gradients"]


def test_no_gradient_of_nan_is_taken_for_zero():
    """The sign of NaN is zero in PyTorch."""
    attack = attacks.PGD(epsilon=EPSILON, steps=2)
    report = evaluate(with_term(root_of_nothing), [attack])
    assert report.results[0].lost == np.flatnonzero(report.clean).tolist()
    assert "lost_points" in report.flags


def test_points_outside_the_ball_are_flagged():
    class TooFar(attacks.PGD):
        def result(self, x, state, setting):
            return ops.clip(state["x_adv"] + 0.2, 0.0, 1.0)

    model = oracles.trained_pair()[0]
    report = evaluate(model, [TooFar(epsilon=EPSILON, steps=1)])
    assert report.results[0].lost == np.flatnonzero(report.clean).tolist()
    assert "outside of the ball" in report.flags["lost_points"]
    assert evaluate(model, ["pgd"]).flags == {}


def test_nan_on_clean_images_names_them():
    x, y = oracles.trained_batch(16)
    x = x.copy()
    x[[3, 7], 0, 0] = 0.5
    with pytest.raises(ValueError, match="2 such images, at 3, 7 of"):
        keras_adaad.evaluate_robustness(
            with_term(nan_where_bright), x, y, ["fgsm"], EPSILON
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_black_box_must_not_return_it(value):
    """The images whose mean is in a dead zone, clean or attacked."""
    model = oracles.trained_pair()[0]
    x, y = oracles.trained_batch(16)
    clean = model.predict(x, verbose=0).argmax(-1) == y
    square = attacks.Square(epsilon=EPSILON, queries=20, seed=0)

    def dead(images, where):
        logits = model.predict_on_batch(images)
        logits[where(images)] = value
        return logits

    chosen = x[[4, 9]]

    def on_clean_ones(images):
        same = (images == chosen[:, None]).all((2, 3, 4))
        return dead(images, lambda _: same.any(0))

    with pytest.raises(ValueError, match="finite logits.* at 4, 9 of those"):
        evaluate(on_clean_ones, [square])
    # Where it is attacked: the first image that is right when clean.
    place = np.flatnonzero(clean)[2]

    def on_a_neighbour(images):
        far = np.abs(images - x[place]).max((1, 2, 3))
        return dead(images, lambda _: (far > 0) & (far < 1.01 * EPSILON))

    for call in (
        lambda: square(on_a_neighbour, x, y),
        lambda: evaluate(on_a_neighbour, [square]),
    ):
        with pytest.raises(ValueError, match=f" at {place} of those"):
            call()
