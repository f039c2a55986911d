"""Images from elsewhere: what counts, and what the report then says."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

import keras_adaad
from keras_adaad.evaluation import RobustnessReport
from tests.evaluation import linear
from tests.parameters import once_except

SIZES, POINTS = linear.nearest()
EPSILON = linear.middle(SIZES)


@pytest.fixture(scope="module")
def report():
    """A weak attack in the ball of the best one."""
    attack = keras_adaad.attacks.PGD(
        epsilon=EPSILON, steps=1, step_size=EPSILON / 4, start=None
    )
    return keras_adaad.evaluate_robustness(
        linear.model(),
        *linear.data(),
        [attack],
        EPSILON,
        reliability_checks=False,
        verbose=0,
    )


def add(report, x_adv=POINTS, source="elsewhere", **changes):
    arguments = {"model": linear.model(), "x": linear.data()[0], **changes}
    return report.with_adversarial(**arguments, x_adv=x_adv, source=source)


def test_a_comparison_is_of_the_best_known(report, tmp_path):
    best = add(report)
    for first, second, name in (
        (report, report, "worst case"),
        (report, best, "best known"),
        (best, report, "best known"),
    ):
        comparison = first.compare(second)
        assert str(comparison).splitlines()[4].startswith(name)
        comparison.save_html(tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text()
        assert ("worst case" in page) == (name == "worst case")
    table = keras_adaad.evaluation.robustness_table({"a": best, "b": best})
    assert "best" in table and "worst" not in table


def test_the_nearest_points_are_the_best_known(report, tmp_path, caplog):
    best = add(report)
    outside = (SIZES > EPSILON).sum()
    assert f"{outside} of 24 images from 'elsewhere'" in caplog.text
    flag = "not counted: elsewhere"
    assert f"{outside} of 24" in best.flags[flag] and not report.flags
    assert flag in str(best)
    np.testing.assert_array_equal(best.robust, SIZES > EPSILON)
    assert best.robust_accuracy < best.attacks_accuracy
    assert best.attacks_accuracy == report.robust_accuracy
    assert best.accuracy("pgd") == report.accuracy("pgd")
    assert best.sources == ["elsewhere"] and report.sources == []
    added = best.results[-1]
    near = report.clean & (SIZES <= EPSILON)
    assert added.external and added.attacked == near.sum()
    np.testing.assert_array_equal(added.individual, best.robust)
    np.testing.assert_array_equal(added.lost, np.flatnonzero(SIZES > EPSILON))
    np.testing.assert_allclose(
        best.smallest_perturbations[near],
        np.minimum(1.001 * SIZES, EPSILON)[near],
        rtol=1e-5,
    )
    # The report that was there has not changed.
    assert len(report.results) == 1
    new = report.robust & ~best.robust
    x_adv = best.images["adversarial"]
    np.testing.assert_array_equal(x_adv[new], POINTS[new])
    np.testing.assert_array_equal(
        x_adv[~new], report.images["adversarial"][~new]
    )
    predicted = best.images["adversarial_probabilities"].argmax(-1)
    np.testing.assert_array_equal(predicted == best.labels, best.robust)

    text = str(best)
    assert "\nbest known" in text and "worst case" not in text
    best.save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "best known" in page and "elsewhere" in page
    assert f"<dd>{100 * report.robust_accuracy:.2f} %</dd>" in page
    best.save(tmp_path / "report.json")
    loaded = RobustnessReport.load(tmp_path / "report.json")
    assert loaded.to_dict() == best.to_dict()
    assert loaded.to_dict()["attacks_accuracy"] == report.robust_accuracy
    assert str(loaded) == text and loaded.sources == ["elsewhere"]
    # A report from a file, without images, takes more of them.
    more = add(loaded, linear.data()[0], "the clean images")
    assert more.robust_accuracy == best.robust_accuracy
    with pytest.raises(ValueError, match=r"`x`.*means differ.*0\.001"):
        add(loaded, X + 0.001, "another", x=X + 0.001)
    assert not report.compare(best).same_attacks


def test_a_function_is_asked_too(report):
    kernel = linear.model().get_weights()[0]

    def logits(x):
        assert np.isfinite(x).all()
        return x.reshape(len(x), -1) @ kernel

    x_adv = POINTS.copy()
    x_adv[SIZES > EPSILON] = np.nan
    best = add(report, x_adv, model=logits)
    np.testing.assert_array_equal(best.robust, SIZES > EPSILON)


def test_logits_that_are_not_finite_fool_nobody(report):
    """NaN would name the first class, which is wrong for most images."""
    network = linear.model()
    brightest = ops.max(network.inputs[0], axis=(1, 2, 3))[:, None]
    narrow = keras.Model(
        network.inputs, network.outputs[0] + 0.0 * ops.sqrt(0.8 - brightest)
    )
    x_adv = X.copy()
    chosen = np.sort(X.max((1, 2, 3)).argsort()[-3:])
    x_adv[chosen] += 0.9 * EPSILON
    assert (x_adv[chosen].max((1, 2, 3)) > 0.8).all()
    best = add(report, x_adv, model=narrow)
    assert best.robust_accuracy == report.robust_accuracy
    assert best.results[-1].lost == [i for i in chosen if report.clean[i]]
    assert "3 of 24" in best.flags["not counted: elsewhere"]


def test_a_protocol_that_did_not_finish_keeps_its_name(report):
    (attack,) = report.results
    changes = {"group": "AutoAttack (standard)", "complete": False}
    part = dataclasses.replace(
        report, results=[dataclasses.replace(attack, **changes)]
    )
    with pytest.raises(ValueError, match="`source`"):
        add(part, X, "AutoAttack (standard)")


def test_points_outside_of_the_range_do_not_count(caplog):
    x, y = linear.data()
    low, high = float(x.min()), float(x.max())
    narrow = keras_adaad.evaluate_robustness(
        linear.model(),
        x,
        y,
        ["fgsm"],
        0.4,
        input_range=(low, high),
        reliability_checks=False,
        verbose=0,
    )
    x_adv = x.copy()
    x_adv[3:] = np.where(x[3:] < 0.5, x[3:] - 0.3, x[3:] + 0.3)
    best = add(narrow, x_adv)
    assert "21 of 24" in caplog.text
    np.testing.assert_array_equal(best.robust, narrow.robust)


def of_classes(number):
    inputs = keras.Input(linear.SHAPE)
    head = keras.layers.Dense(number)
    return keras.Model(inputs, head(keras.layers.Flatten()(inputs)))


def scaled(factor):
    """Another model that decides as that of the report does."""
    network = linear.model()
    return keras.Model(network.inputs, factor * network.outputs[0])


X = linear.data()[0]
# What changes, the error and words of its message.
BAD = {
    "shape": ({"x_adv": POINTS[:5]}, ValueError, r"`x_adv`.*\(5, 8, 8, 1\)"),
    "kind": ({"x_adv": X > 0.5}, ValueError, "`x_adv`.*bool"),
    "units": ({"x_adv": 255 * POINTS}, ValueError, "`x_adv`.*no image inside"),
    "NaN": ({"x_adv": np.nan * X}, ValueError, "`x_adv`.*no image inside"),
    "fewer": ({"x": X[:5]}, ValueError, "`x`.*5 images.* of 24"),
    "order": ({"x": X[::-1], "x_adv": X[::-1]}, ValueError, "`model` and `x`"),
    "near": ({"x": X + 0.001}, ValueError, "`x`.*differ.*0.001"),
    "scale": ({"model": lambda: scaled(5.0)}, ValueError, "`model`.*differ"),
    "no images": ({"x": None}, TypeError, "`x`"),
    "classes": ({"model": lambda: of_classes(2)}, ValueError, "2 classes"),
    "model": ({"model": lambda: "student.keras"}, TypeError, "`model`"),
    "no source": ({"source": None}, TypeError, "`source`"),
    "used": ({"source": "pgd"}, ValueError, "`source`.*'pgd'"),
    "clean": ({"source": "clean"}, ValueError, "`source`.*'clean'"),
    "protocol": (
        {"source": "AutoAttack (standard)"},
        ValueError,
        "`source`.*protocol",
    ),
}


@pytest.mark.parametrize(
    "case", once_except(BAD, "order", "near", "scale", "classes")
)
def test_bad_input_is_named(case, report):
    changes, error, words = BAD[case]
    if "model" in changes:
        changes = {"model": changes["model"]()}
    with pytest.raises(error, match=words):
        add(report, **changes)
