"""The example and the benchmark run, on real data, and find what they claim."""

import json
import pathlib
import re
import subprocess
import sys

import keras
import pytest

ROOT = pathlib.Path(__file__).parent.parent


def run(*command):
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="the backend of `make quickstart`: a page has its code on each",
)
def test_quickstart(run_example, tmp_path):
    """The whole path, shortened: the order of the students must show."""
    output = run_example("quickstart", "--epochs", 4, "--output", tmp_path)
    rows = {}
    for line in output.split("Accuracy on ")[1].splitlines():
        match = re.match(r"(robust teacher|student, \w+) +([\d.]+.*)", line)
        if match:
            rows[match[1]] = [float(v) for v in match[2].split()[:3]]
    assert len(rows) == 4
    clean, fgsm, pgd = rows["student, AdaAD"]
    assert clean > 90 and clean >= fgsm >= pgd
    for name in ("student, plain", "student, distilled"):
        assert abs(rows[name][0] - clean) < 8
        assert pgd > rows[name][2] + 20
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
    student = keras.models.load_model(tmp_path / "student.keras")
    assert student.output_shape == (None, 10)


@pytest.mark.once
def test_custom_method(run_example):
    output = run_example("custom_method", "--epochs", 2)
    (row,) = (r for r in output.splitlines() if r.startswith("student "))
    clean, pgd = (float(v) for v in re.findall(r"([\d.]+) %", row))
    assert clean > 70 and clean >= pgd


@pytest.mark.once
def test_segmentation(run_example):
    """The attack costs pixels, and training pays."""
    output = run_example("segmentation", "--epochs", 6)
    rows = re.findall(r"^(\w+) +(.*%)$", output, re.M)
    found = {
        name: [float(v) for v in re.findall(r"([\d.]+)%", row)]
        for name, row in rows
    }
    for accuracy, iou, pgd_accuracy, pgd_iou in found.values():
        assert accuracy > 80 and accuracy > pgd_accuracy + 5
        assert iou > pgd_iou + 5
    assert found["adversarial"][3] > found["plain"][3] + 3


@pytest.mark.skipif(keras.config.backend() != "torch", reason="torchrun")
def test_torch_ddp(tmp_path):
    """Two processes, one student, one report."""
    torchrun = ("-m", "torch.distributed.run", "--standalone")
    output = run(
        *(*torchrun, "--nproc-per-node", 2, "examples/torch_ddp.py"),
        *("--epochs", 1, "--output", tmp_path),
    )
    # No line ends: the two may write theirs one after the other.
    accuracies = re.findall(
        r"Process (\d) of 2: robust accuracy ([\d.]+) %", output
    )
    assert sorted(rank for rank, _ in accuracies) == ["0", "1"]
    assert len({accuracy for _, accuracy in accuracies}) == 1
    assert output.count("PGD-20") == 1
    student = keras.models.load_model(tmp_path / "torch_ddp" / "student.keras")
    assert student.output_shape == (None, 10)


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="keras.distribution"
)
def test_jax_data_parallel(run_example):
    try:
        output = run_example("jax_data_parallel", "--epochs", 2)
    finally:
        keras.distribution.set_distribution(None)
    assert "2 devices: cpu:0, cpu:1" in output
    (row,) = (r for r in output.splitlines() if r.startswith("student "))
    clean, pgd = (float(v) for v in re.findall(r"([\d.]+) %", row))
    assert clean > 50 and clean >= pgd


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute"
)
def test_tensorflow_mirrored():
    output = run("examples/tensorflow_mirrored.py", "--epochs", 2)
    assert "2 replicas" in output and "device:CPU:1" in output
    (row,) = (r for r in output.splitlines() if r.startswith("student "))
    clean, pgd = (float(v) for v in re.findall(r"([\d.]+) %", row))
    assert clean > 70 and clean >= pgd


@pytest.mark.once
def test_step_speed(tmp_path):
    backend = keras.config.backend()
    output = tmp_path / "speed.json"
    printed = run(
        *("-m", "benchmarks.step_speed", "--networks", "tiny"),
        *("--backends", backend, "--precisions", "float32"),
        *("--rounds", 1, "--output", output),
    )
    rows = json.loads(output.read_text())["tiny"]
    assert set(rows) == {"reference, float32", f"{backend}, float32"}
    row = rows[f"{backend}, float32"]
    assert row["images/s"] > 0 and 0 < row["share of peak"] < 1
    assert f"{row['ratio']:.2f}" in printed
