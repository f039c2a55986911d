"""The benchmarks of `rank_teachers` and `EntropyWeighting`, in small."""

import json
import pathlib
import re
import sys

import keras
import numpy as np
import pytest
from scipy import stats

from benchmarks import teacher_tables
from benchmarks import teachers
from benchmarks import weighting
from benchmarks.study import cifar10
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
    assert set(result["correlations"]) == set(teacher_tables.PREDICTORS)
    runs = sorted(folder.glob("*-0.json"))
    assert [path.stem for path in runs] == [
        *("students-of-narrow-0", "students-of-short-0"),
        *("teachers-narrow-0", "teachers-short-0"),
    ]
    times = [path.stat().st_mtime_ns for path in runs]
    rank()
    printed = capsys.readouterr().out
    assert "| predictor | rank correlation |" in printed
    for row in result["rows"]:
        (line,) = re.findall(rf"\| {row['name']} \|.*", printed)
        assert f"| {100 * row['transferable']:.1f} |" in line
        assert line.endswith(f"| {100 * row['students'][0]:.1f} |")
    assert times == [path.stat().st_mtime_ns for path in runs]
    assert json.loads((folder / "teachers.json").read_text()) == result


def test_the_published_runs_make_the_published_result():
    folder = pathlib.Path("benchmarks/published/teachers/cheap")
    result = json.loads((folder / "teachers.json").read_text())
    names = [row["name"] for row in result["rows"]]
    assert sorted(names) == sorted(arm.name for arm in teachers.TEACHERS)
    arms = {arm.name: arm for arm in teachers.TEACHERS}
    students = {arm.teacher[0]: arm for arm in teachers.STUDENTS}
    for row in result["rows"]:
        found = teachers.robust_accuracy(folder, arms[row["name"]], 0)
        assert row["autoattack"] == found
        found = teachers.robust_accuracy(folder, students[row["name"]], 0)
        assert row["students"] == [found]
    ranking = json.loads((folder / "ranking.json").read_text())
    assert names == [teacher["name"] for teacher in ranking["results"]]
    for name, found in teachers.correlations(result["rows"]).items():
        for part, value in result["correlations"][name].items():
            assert found[part] == pytest.approx(value)


def test_students_with_and_without_weights(options, rank, monkeypatch, capsys):
    command = ["weighting", "--teacher", "short", "--seeds", "0", *options]
    monkeypatch.setattr(sys, "argv", command)
    weighting.main()
    printed = capsys.readouterr().out
    assert "The teacher: short." in printed
    for method in weighting.METHODS:
        assert re.search(rf"^\| \**{method}\** \|", printed, re.M)
        assert f"| {method}, weighted, minus {method} |" in printed
    assert "| AdaAD, weighted, minus AdaAD, mean weight |" in printed
    assert "| RSLAD, minus AdaAD |" in printed
    # Of another teacher, there are no runs.
    other = weighting.table("narrow", folder_of(options))
    assert "weighted" not in other


def test_weakest_students():
    rows = [
        {"name": "a", "students": [0.3, 0.5]},
        {"name": "b", "students": [0.4, 0.3]},
    ]
    assert weighting.weakest(rows) == "b"


def test_weights_are_all_that_differs():
    study = weighting.study_of("short")
    regime = weighting.regime_of("short")
    arms = {arm.name: arm for arm in study.arms if arm.regime == regime}
    pairs = [(m, weighting.WEIGHTED.format(m)) for m in weighting.METHODS]
    pairs.append(("AdaAD", weighting.MEAN))
    assert len(arms) == 1 + 2 * len(weighting.METHODS)
    for names in pairs:
        plain, weighted = (
            methods.make_trainer(
                arms[name], 0.03, 1, networks.dense_net(), networks.dense_net()
            )
            for name in names
        )
        assert plain.sample_weighting is None
        assert weighted.sample_weighting.clean_weight == 0.5
        configs = [trainer.get_config() for trainer in (plain, weighted)]
        own = {"name", "sample_weighting", "teacher", "student"}
        for key in configs[0].keys() - own:
            assert configs[0][key] == configs[1][key], key


def test_mean_of_the_weights():
    trainer = methods.make_trainer(
        cifar10.arm("", "", "AdaAD", options={"sample_weighting": "entropy"}),
        *(0.03, 1, networks.dense_net(), networks.dense_net()),
    )
    x = np.random.default_rng(0).random((8, *networks.SHAPE), "float32")
    arguments = (trainer, {"adversarial": x, "clean": x}, {}, None)
    entropy, mean = (
        keras.ops.convert_to_numpy(cls(5.0).weights(*arguments))
        for cls in methods.WEIGHTINGS.values()
    )
    assert np.ptp(entropy) > 0.0
    np.testing.assert_allclose(mean, np.full(8, entropy.mean()), rtol=1e-5)


def test_rank_correlation():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 9)  # With ties.
    second = first + rng.normal(size=9)
    found = teachers.rank_correlation(first, second)
    expected = stats.spearmanr(first, second).statistic
    assert found["correlation"] == pytest.approx(expected)
    low, high = found["interval"]
    assert -1.0 < low < expected < high < 1.0
    # Of 24 orders of four, the given and the reverse are as far from zero.
    found = teachers.rank_correlation([1, 2, 3, 4], [1, 2, 3, 4])
    assert found["correlation"] == pytest.approx(1.0)
    assert found["p_value"] == pytest.approx(2 / 24)
    assert found["interval"] is None
    assert teachers.rank_correlation([1, 1], [3, 1])["correlation"] is None


def test_students_differ_in_their_teacher_alone():
    assert len(teachers.TEACHERS) >= 6
    for arm, student in zip(teachers.TEACHERS, teachers.STUDENTS, strict=True):
        assert student.teacher == (arm.name, arm.regime)
        assert not student.is_teacher and student.method == "AdaAD"
