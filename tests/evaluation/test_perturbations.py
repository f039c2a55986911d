"""Smallest perturbations, against those of a linear model, and their curve."""

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad import attacks
from keras_adaad.evaluation import RobustnessReport
from keras_adaad.evaluation import curve
from keras_adaad.evaluation.pages import report_page
from tests.evaluation import linear
from tests.evaluation.test_report import make_report
from tests.evaluation.test_report import result
from tests.evaluation.test_report import teacher

NORMS = ["linf", "l2"]


def evaluate(attacks, epsilon, norm="linf", **options):
    options = {"reliability_checks": False, "curve": False, **options}
    return keras_adaad.evaluate_robustness(
        linear.model(),
        *linear.data(),
        attacks,
        epsilon,
        norm=norm,
        verbose=0,
        **options,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_sizes_are_those_of_a_linear_model(norm, tmp_path):
    exact, _ = linear.nearest(norm)
    epsilon = linear.middle(exact)
    arguments = {"epsilon": epsilon, "norm": norm}
    options = {
        "attacks": [
            attacks.FMN(**arguments),
            attacks.FAB(**arguments, steps=20, targets=None),
            attacks.PGD(**arguments, steps=5, start=None),
        ],
        **arguments,
        "individual": True,
        "curve": True,
        "state_path": tmp_path / "state.npz",
    }
    report = evaluate(**options)
    sizes = report.smallest_perturbations
    assert (sizes[:2] == 0.0).all()
    fmn, fab, pgd = (result.perturbations for result in report.results)
    for found in (fmn, fab):
        assert (found[2:] >= 0.999 * exact[2:] - 1e-6).all()
    assert (fab[2:] <= 1.03 * exact[2:]).all()
    # FMN may stop just before the boundary. It walks to the most likely other
    # class, which may not be the nearest.
    assert np.mean(fmn[2:] <= 1.03 * exact[2:]) > 0.7
    np.testing.assert_array_equal(sizes[2:], np.minimum(fmn, fab)[2:])
    # PGD goes as far as it may.
    np.testing.assert_allclose(pgd[np.isfinite(pgd)], epsilon, rtol=0.02)
    assert pgd[np.isfinite(pgd)].max() <= epsilon
    np.testing.assert_array_equal(report.robust, sizes > epsilon)
    np.testing.assert_array_equal(report.robust, exact > epsilon)
    assert report.median_perturbation == np.median(sizes)

    found = report.curve
    assert found["attack"] == "smallest perturbation by fmn, fab and PGD-20"
    assert found["num_images"] == 24 and len(found["epsilons"]) > 4
    for radius, accuracy in zip(
        found["epsilons"], found["accuracy"], strict=True
    ):
        assert accuracy == (exact > radius).mean()

    resumed = evaluate(**options)
    resumed.save(tmp_path / "report.json")
    loaded = RobustnessReport.load(tmp_path / "report.json")
    for other in (resumed, loaded):
        np.testing.assert_array_equal(other.smallest_perturbations, sizes)
        assert other.median_perturbation == report.median_perturbation
        assert other.curve == found


def test_pgd_runs_where_no_perturbation_was_found():
    """The first step of FMN only looks at the clean image."""
    epsilon = linear.middle(linear.nearest()[0])
    radii = [0.5 * epsilon, epsilon, 2.0 * epsilon]
    blind = attacks.FMN(epsilon=epsilon, steps=1)
    report = evaluate([blind], epsilon, curve=radii)
    expected = evaluate(["fgsm"], epsilon, curve=radii).curve
    assert expected.pop("attack") == "PGD-20"
    assert len(set(expected["accuracy"])) == 3
    assert report.median_perturbation == np.inf
    assert report.curve == {
        "attack": "smallest perturbation by fmn and PGD-20",
        **expected,
    }


def test_an_attack_that_finds_nothing_raises_no_curve():
    """PGD knows of a perturbation of size epsilon, and of no smaller one."""
    exact, _ = linear.nearest()
    epsilon = float(2.0 * exact.max())
    radii = [0.2 * epsilon, 0.4 * epsilon, epsilon]
    blind = attacks.FMN(epsilon=epsilon, steps=1)
    report = evaluate([blind, "pgd"], epsilon, curve=radii)
    expected = evaluate(["fgsm"], epsilon, curve=radii).curve["accuracy"]
    assert report.curve["accuracy"] == expected
    assert expected[0] < 1.0 and report.robust_accuracy == 0.0
    assert report.median_perturbation == np.inf
    assert report.compare(report).perturbation is None


@pytest.mark.parametrize("steps, images", [(1, 8), (100, 24)])
def test_pgd_checks_a_part_of_the_images(steps, images, monkeypatch):
    """If FMN has missed perturbations there, the curve is of that part."""
    monkeypatch.setattr(curve, "SAMPLE", 8)
    exact, _ = linear.nearest()
    epsilon = linear.middle(exact)
    monkeypatch.setattr(curve, "RADII", (1.0,))
    fmn = attacks.FMN(epsilon=epsilon, steps=steps)
    found = evaluate([fmn], epsilon, curve=True).curve
    assert found["num_images"] == images
    names = {8: "fmn and PGD-20", 24: "fmn, and PGD-20 on 8 images"}
    assert found["attack"] == f"smallest perturbation by {names[images]}"
    rows = np.arange(24) if images == 24 else curve.sampled(np.arange(24))
    assert found["accuracy"][0] == (exact[rows] > epsilon).mean()


def test_every_target_of_fab_counts():
    """The class with the second largest logit is ten times as far away."""
    inputs = keras.Input((2, 2, 1))
    head = keras.layers.Dense(3)
    model = keras.Model(inputs, head(keras.layers.Flatten()(inputs)))
    kernel = np.zeros((4, 3))
    kernel[0] = [0.0, 1.0, 100.0]
    head.set_weights([kernel, np.array([0.0, -0.55, -50.5])])
    x, y = np.full((3, 2, 2, 1), 0.5), np.zeros(3, int)
    sizes = {}
    for targets in (1, 2):
        fab = attacks.FAB(epsilon=0.06, steps=20, targets=targets)
        report = keras_adaad.evaluate_robustness(
            *(model, x, y, [fab], 0.06),
            reliability_checks=False,
            curve=False,
            verbose=0,
        )
        sizes[targets] = report.smallest_perturbations
    np.testing.assert_allclose(sizes[1], 0.05, rtol=0.03)
    np.testing.assert_allclose(sizes[2], 0.005, rtol=0.03)


def test_an_attack_on_some_of_the_images_makes_no_curve():
    """What PGD fooled before has no small perturbation."""
    epsilon = linear.middle(linear.nearest()[0])
    report = evaluate(["pgd", "fmn"], epsilon, curve=[epsilon])
    assert report.results[1].attacked < report.clean.sum()
    assert report.curve["attack"] == "PGD-20"
    assert report.median_perturbation is None


# By hand.

SIZES = [0.01, 0.02, 0.025, 0.03, 0.2, np.inf, 0.1, 0.3, 0.04, np.inf]


def searched(sizes=SIZES, robust="0000111110", **kwargs):
    """A report in which FMN ran on all nine images that are right."""
    return make_report(
        results=[
            result("pgd-20", "1" * 10, attacked=9),
            result(
                "fmn",
                robust,
                attacked=9,
                perturbations=sizes,
                minimum_norm=True,
            ),
        ],
        **kwargs,
    )


@pytest.mark.once
def test_the_smallest_of_all_attacks():
    report = searched()
    report.results[0].perturbations = np.full(10, np.inf)
    report.results[0].perturbations[3:5] = [0.02, 8 / 255]
    np.testing.assert_array_equal(
        report.smallest_perturbations,
        [0.01, 0.02, 0.025, 0.02, 8 / 255, np.inf, 0.1, 0.3, 0.04, 0.0],
    )
    # Where PGD found a smaller one, FMN may have missed one still smaller.
    assert report.median_perturbation == (0.04 + 0.1) / 2


@pytest.mark.once
def test_the_median_is_shown(tmp_path):
    report = searched()
    assert report.median_perturbation == 0.035
    assert "perturbations 0.035: an upper" in " ".join(str(report).split())
    report.save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "median of the smallest perturbations</dt><dd>0.035</dd>" in page
    few = searched([np.inf] * 10, "1" * 10)
    assert few.median_perturbation == np.inf
    assert "perturbations not found" in str(few)
    for part in (False, True):
        report = searched()
        report.results[1].complete = part
        report.results[1].attacked = 9 - part
        assert report.median_perturbation is None
        assert "median" not in str(report)
        assert "median" not in report_page.short(report)


@pytest.mark.once
def test_a_report_of_an_earlier_version_knows_epsilon():
    report = make_report()
    assert all("perturbations" not in r for r in report.to_dict()["results"])
    expected = np.where(report.robust, np.inf, 8 / 255)
    expected[9] = 0.0
    np.testing.assert_array_equal(report.smallest_perturbations, expected)
    assert report.median_perturbation is None


@pytest.mark.once
@pytest.mark.parametrize("sizes", [[0.1], [-0.1] * 10, [np.nan] * 10, "1" * 10])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(ValueError, match="perturbations"):
        searched(sizes)


@pytest.mark.once
def test_compare_medians(tmp_path):
    sizes = np.minimum(SIZES, 1.0)
    first, second = searched(sizes), searched(2.0 * sizes, "0" + "1" * 9)
    pair = first.compare(second).perturbation
    assert pair[:2] == (0.035, 0.07) and pair.difference == -0.035
    assert pair.low < pair.difference < pair.high <= 0.0
    text = str(first.compare(second))
    assert "median perturbation 0.035 and 0.07, difference -0.035 [" in text
    assert max(map(len, text.splitlines())) <= 80
    first.compare(second).save_html(tmp_path / "page.html")
    assert "0.035 and 0.07" in (tmp_path / "page.html").read_text()
    for other in (teacher(), searched([np.inf] * 10, "1" * 10)):
        assert first.compare(other).perturbation is None
