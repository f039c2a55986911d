"""The benchmarks of `rank_teachers` and `EntropyWeighting`, in small."""

import json
import pathlib
import re
import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks import teachers
from benchmarks import weighting
from benchmarks.study import methods
from tests import networks

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Images of noise, whose classes have means of their own."""
    folder = tmp_path_factory.mktemp("teachers")
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 100), ("test", 4)):
        labels = np.arange(count) % 10
        noise = rng.integers(0, 30, (count, 32, 32, 3))
        noise += 20 * labels[:, None, None, None]
        arrays[f"x_{part}"] = noise.astype("uint8")
        arrays[f"y_{part}"] = labels.astype("uint8")
    np.savez(folder / "images.npz", **arrays)
    data = str(folder / "images.npz")
    return ["--budget", "tiny", "--data", data, "--output", str(folder)]


@pytest.fixture(scope="module")
def rank(options):
    """A function that ranks two teachers; it has been called once."""
    command = ["teachers", "--teachers", "short", "narrow", *options]

    def rank():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", command)
            teachers.main()

    rank()
    return rank


def folder_of(options):
    return pathlib.Path(options[-1], "teachers", "tiny")


def test_runs_are_ranked_and_done_once(options, rank, capsys):
    folder = folder_of(options)
    result = json.loads((folder / "teachers.json").read_text())
    assert {row["name"] for row in result["rows"]} == {"short", "narrow"}
    # A tenth of one step, and 60 images.
    assert (result["warmup"], result["images"]) == (1, 60)
    assert set(result["correlations"]) == set(teachers.PREDICTORS)
    runs = sorted(folder.glob("*-0.json"))
    assert [path.stem for path in runs] == [
        *("students-of-narrow-0", "students-of-short-0"),
        *("teachers-narrow-0", "teachers-short-0"),
    ]
    times = [path.stat().st_mtime_ns for path in runs]
    rank()
    assert "| rank correlation |" in capsys.readouterr().out
    assert times == [path.stat().st_mtime_ns for path in runs]
    assert json.loads((folder / "teachers.json").read_text()) == result


def test_students_with_and_without_weights(options, rank, monkeypatch, capsys):
    command = ["weighting", "--teacher", "short", "--seeds", "0", *options]
    monkeypatch.setattr(sys, "argv", command)
    weighting.main()
    printed = capsys.readouterr().out
    assert "The teacher: short." in printed
    for table in printed.split("weighted minus plain"):
        for method in weighting.METHODS:
            assert re.search(rf"^\| \**{method}\** \|", table, re.M)


def test_weakest_students():
    rows = [
        {"name": "a", "students": [0.3, 0.5]},
        {"name": "b", "students": [0.4, 0.3]},
    ]
    assert weighting.weakest(rows) == "b"


def test_weights_are_all_that_differs():
    study = weighting.study_of("short")
    arms = {arm.name: arm for arm in study.arms if arm.regime == "weighting"}
    assert len(arms) == 2 * len(weighting.METHODS)
    for method in weighting.METHODS:
        plain, weighted = (
            methods.make_trainer(
                arms[name], 0.03, 1, networks.dense_net(), networks.dense_net()
            )
            for name in (method, weighting.WEIGHTED.format(method))
        )
        assert plain.sample_weighting is None
        assert weighted.sample_weighting.clean_weight == 0.5
        configs = [trainer.get_config() for trainer in (plain, weighted)]
        own = {"name", "sample_weighting", "teacher", "student"}
        for key in configs[0].keys() - own:
            assert configs[0][key] == configs[1][key], key


def test_rank_correlation():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 9)  # With ties.
    second = first + rng.normal(size=9)
    found = teachers.rank_correlation(first, second)
    expected = stats.spearmanr(first, second).statistic
    assert found["correlation"] == pytest.approx(expected)
    low, high = found["interval"]
    assert -1.0 < low < expected < high < 1.0
    found = teachers.rank_correlation([1, 2], [3, 1])
    assert found == {"correlation": pytest.approx(-1.0), "interval": None}
    assert teachers.rank_correlation([1, 1], [3, 1])["correlation"] is None


def test_students_differ_in_their_teacher_alone():
    assert len(teachers.TEACHERS) >= 6
    for arm, student in zip(teachers.TEACHERS, teachers.STUDENTS, strict=True):
        assert student.teacher == (arm.name, arm.regime)
        assert not student.is_teacher and student.method == "AdaAD"
