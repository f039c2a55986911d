"""The CIFAR and Tiny-ImageNet runs, shortened: killed, resumed, reported."""

import os
import pathlib
import runpy
import signal
import subprocess
import sys

import click
import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad import data
from keras_adaad import zoo
from keras_adaad.command_line.devices import device_scope
from keras_adaad.command_line.networks import STUDENTS
from tests.data.on_disk import pictures
from tests.data.on_disk import write_cifar10

BACKEND = keras.config.backend()
ROOT = pathlib.Path(__file__).parent.parent

# TensorFlow is there under TensorFlow only: the others do without.
SCRIPT = """
import os, runpy, signal, sys
if os.environ["KERAS_BACKEND"] != "tensorflow":
    import tests.data.without_tensorflow
import keras

if sys.argv[1] == "kill":
    # In the worst moment: all of epoch 2 is on disk, except the backup.
    Backup = keras.callbacks.BackupAndRestore
    save = Backup.on_epoch_end

    def save_or_die(self, epoch, logs=None):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, epoch, logs)

    Backup.on_epoch_end = save_or_die
sys.argv = sys.argv[2:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def network(name, favourite=None):
    """A small network, with a liking for a class, so that some are right."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, 4, padding="same", use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    head = keras.layers.Dense(10)
    outputs = head(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs, name=name)
    if favourite is not None:
        head.bias.assign(0.3 * np.eye(10)[favourite])
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CIFAR-10 on disk, as the backend reads it, and two networks."""
    folder = tmp_path_factory.mktemp("cifar10")
    write_cifar10(
        folder,
        "tfrecord" if BACKEND == "tensorflow" else "array_record",
        train=pictures(100, seed=1),
        test=pictures(20, seed=2),
    )
    test = data.load_tfds("cifar10", "test[:4]", data_dir=folder)
    favourite = data.to_arrays(test)[1][0]
    keras.utils.set_random_seed(0)
    for name in ("teacher", "student"):
        network(name, favourite).save(folder / f"{name}.keras")
    return folder


def run(mode, folder, output, *flags):
    return subprocess.run(
        [
            *(sys.executable, "-c", SCRIPT, mode, "examples/cifar10_adaad.py"),
            *("--teacher", folder / "teacher.keras"),
            *("--student", folder / "student.keras"),
            *("--data-dir", folder, "--output", output),
            *("--epochs", "2", "--batch-size", "32", "--limit", "64"),
            *("--hold-out", "20", "--autoattack-images", "4"),
            *("--epsilon", "1/3", *flags),
        ],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
    )


def students(output):
    for name in ("best", "last"):
        yield keras.models.load_model(output / f"{name}.keras").get_weights()


@pytest.mark.skipif(
    BACKEND == "jax", reason="tests/test_resume.py kills a run on each backend"
)
def test_killed_run_resumes_and_reports(folder, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = run("run", folder, whole)
    assert result.returncode == 0, result.stderr
    result = run("kill", folder, broken)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert not (broken / "student.keras").exists()
    result = run("run", folder, broken)
    assert result.returncode == 0, result.stderr
    assert "Epoch 2/2" in result.stdout and "Epoch 1/2" not in result.stdout

    log = (broken / "log.csv").read_text().splitlines()
    assert len(log) == 3 and len({line.split(",")[0] for line in log}) == 3
    for one, two in zip(students(whole), students(broken), strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    # The best is of epoch 1, and epoch 2, no better, has not replaced it.
    best, last = students(broken)
    assert not np.allclose(best[0], last[0], atol=1e-5)

    assert "AutoAttack (standard)" in result.stdout
    report = keras_adaad.RobustnessReport.load(broken / "report.json")
    assert len(report.labels) == 4 and report.clean.any() and report.complete
    assert (broken / "robustness.png").stat().st_size > 10_000
    student = keras.models.load_model(broken / "student.keras")
    for a, b in zip(student.get_weights(), best, strict=True):
        np.testing.assert_array_equal(a, b)
    if BACKEND == "tensorflow":
        assert list((broken / "tensorboard").rglob("events*"))


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "classes", "reduction", "padding"),
    [
        ("cifar10", 10, "mean", 4),
        ("cifar100", 100, "batchmean", 4),
        ("tiny_imagenet", 200, "batchmean", 8),
    ],
)
def test_recipes(monkeypatch, name, classes, reduction, padding):
    monkeypatch.syspath_prepend(ROOT / "examples")
    example = runpy.run_path(str(ROOT / "examples" / f"{name}_adaad.py"))
    recipe = example["experiment"].recipe
    assert recipe.dataset == name and recipe.method == "AdaAD"
    assert recipe.constructor == {"alpha": 1.0, "reduction": reduction}
    assert recipe.padding == padding
    assert recipe.student.lower() in STUDENTS
    if recipe.teacher is not None:
        teacher = zoo.entry(recipe.teacher, recipe.dataset, "Linf")
        assert teacher["arguments"].get("num_classes", 10) == classes


def test_devices():
    with pytest.raises(click.UsageError, match="--devices"):
        device_scope(3)
    if BACKEND == "jax":
        with device_scope(2):
            distribution = keras.distribution.distribution()
            assert distribution.device_mesh.devices.size == 2
        keras.distribution.set_distribution(None)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with device_scope(2):
            assert tf.distribute.get_strategy().num_replicas_in_sync == 2
