"""The benchmark of `rank_teachers`, in small."""

import json
import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks import teachers

pytestmark = pytest.mark.once


def test_runs_are_ranked_and_done_once(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 100), ("test", 4)):
        labels = np.arange(count) % 10
        noise = rng.integers(0, 30, (count, 32, 32, 3))
        noise += 20 * labels[:, None, None, None]
        arrays[f"x_{part}"] = noise.astype("uint8")
        arrays[f"y_{part}"] = labels.astype("uint8")
    np.savez(tmp_path / "images.npz", **arrays)
    command = ["teachers", "--budget", "tiny", "--teachers", "short", "narrow"]
    command += ["--data", str(tmp_path / "images.npz")]
    command += ["--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    teachers.main()
    folder = tmp_path / "teachers" / "tiny"
    result = json.loads((folder / "teachers.json").read_text())
    assert {row["name"] for row in result["rows"]} == {"short", "narrow"}
    # A tenth of one step, and 60 images.
    assert (result["warmup"], result["images"]) == (1, 60)
    assert set(result["correlations"]) == set(teachers.PREDICTORS)
    assert "| rank correlation |" in capsys.readouterr().out
    runs = sorted(folder.glob("*-0.json"))
    assert [path.stem for path in runs] == [
        *("students-of-narrow-0", "students-of-short-0"),
        *("teachers-narrow-0", "teachers-short-0"),
    ]
    times = [path.stat().st_mtime_ns for path in runs]
    teachers.main()
    assert times == [path.stat().st_mtime_ns for path in runs]
    assert json.loads((folder / "teachers.json").read_text()) == result


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
