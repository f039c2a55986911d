"""The study: its published tables, and the whole of it in small."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks import fashion_mnist
from benchmarks import fashion_mnist_report


@pytest.mark.parametrize("path", fashion_mnist_report.PUBLISHED)
def test_the_runs_make_the_published_tables(path):
    text = path.read_text()
    for name in fashion_mnist_report.PUBLISHED[path]:
        table = fashion_mnist_report.table(name)
        assert table in text
        assert fashion_mnist_report.filled(text, name, table) == text


def test_what_the_published_runs_are():
    """Every method, of one configuration, the rivals with three seeds."""
    runs = fashion_mnist_report.load(fashion_mnist_report.RUNS / "small")
    assert set(runs) == {"teacher", *fashion_mnist.methods()}
    for name in ("AdaAD", "RSLAD", "ARD", "PGD-AT"):
        assert len(runs[name]) >= 3
    configurations = [
        {**result["config"], "method": None, "seed": None}
        for name, seeds in runs.items()
        for result in seeds.values()
        if name != "teacher"
    ]
    assert all(c == configurations[0] for c in configurations)


def write_files(folder):
    """Writes scikit-learn's digits as files of Fashion-MNIST's format."""
    digits = load_digits()
    images = digits.images.repeat(3, axis=1).repeat(3, axis=2)
    images = np.pad(images * 15, [(0, 0), (2, 2), (2, 2)]).astype("uint8")
    for name, part in (("train", slice(0, 160)), ("t10k", slice(160, 200))):
        for kind, header, values in (
            ("images-idx3", 16, images[part]),
            ("labels-idx1", 8, digits.target[part].astype("uint8")),
        ):
            with gzip.open(folder / f"{name}-{kind}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + values.tobytes())
    return images, digits.target


def test_study(tmp_path):
    """Teacher, method, tables and pictures; what is done is not done again."""
    images, labels = write_files(tmp_path)
    budget = fashion_mnist.BUDGETS["tiny"]
    data = fashion_mnist.load_data(budget, tmp_path)
    np.testing.assert_allclose(
        data["held out"][0][..., 0], images[128:160] / 255, atol=1e-7
    )
    np.testing.assert_array_equal(data["test"][1], labels[160:168])

    command = ["-m", "benchmarks.fashion_mnist", "--budget", "tiny"]
    command += ["--methods", "plain training", "AdaAD", "--processes", "2"]
    command += ["--data", tmp_path, "--output", tmp_path / "runs"]
    printed = subprocess.run(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    output = tmp_path / "runs" / "tiny"
    files = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert set(files) == {
        *(f"{n}-0.{s}" for n in RUNS for s in ("json", "keras")),
        *("plain-training-0.log", "AdaAD-0.log"),
        *("accuracy.png", "curves.png", "unfinished"),
    }
    assert not list((output / "unfinished").iterdir())
    result = json.loads((output / "AdaAD-0.json").read_text())
    assert [row["epoch"] for row in result["history"]] == [0, 1]
    assert all(row["seconds"] > 0 for row in result["history"])
    flags = fashion_mnist_report.outcomes(result)
    assert all(len(right) == 8 for right in flags.values())
    assert not (flags["AutoAttack"] & ~flags["clean"]).any()
    share = 100 * np.mean(flags["AutoAttack"])
    assert f"| {share:.1f} |" in row_of(printed, "**AdaAD**")

    options = (budget, ["plain training", "AdaAD"], [0], tmp_path, output)
    fashion_mnist.study(*options)
    for name in files:
        if name.endswith((".json", ".keras")):
            assert (output / name).stat().st_mtime_ns == files[name]
    with pytest.raises(SystemExit, match="other values of .*'epochs'"):
        other = fashion_mnist.Budget(64, 3, 128, 1, attacked=8, held_out=32)
        fashion_mnist.study(other, *options[1:])
    with pytest.raises(SystemExit, match="Unknown: FGSM-AT"):
        fashion_mnist.study(budget, ["FGSM-AT"], *options[2:])


RUNS = ("teacher", "plain-training", "AdaAD")


def row_of(printed, name):
    (row,) = (r for r in printed.splitlines() if r.startswith(f"| {name} |"))
    return row


def test_differences_are_paired():
    """Equal gains on all images are sure; the same mean by chance is not."""
    first = np.array([1.0, 0.0] * 50)
    assert fashion_mnist_report.difference(first, first) == ("+0.0 ± 0.0", "1")
    second = first.copy()
    second[:40:2] = 0.0  # 20 images, all in favour of the first.
    points, p = fashion_mnist_report.difference(first, second)
    assert points.startswith("+20.0") and float(p) < 1e-4
    second[1:41:2] = 1.0  # and 20 in favour of the second.
    points, p = fashion_mnist_report.difference(first, second)
    assert points.startswith("+0.0") and float(p) == 1.0


def test_interval_is_that_of_a_share():
    low, high = fashion_mnist_report.interval([np.arange(400) < 100])
    assert (low + high) / 2 == pytest.approx(25.0)
    assert (high - low) / 2 == pytest.approx(196 * (0.25 * 0.75 / 399) ** 0.5)
