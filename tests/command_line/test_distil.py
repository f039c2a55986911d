"""`keras-adaad distil`; tests/test_cifar_examples.py kills and resumes it."""

import json
import types

import click
import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad import RobustnessReport
from keras_adaad import methods
from keras_adaad.command_line.distil import RECIPES
from keras_adaad.command_line.distil import published
from keras_adaad.command_line.experiment import load_data
from keras_adaad.command_line.networks import STUDENTS
from tests import networks
from tests.command_line.distil_runs import change
from tests.command_line.distil_runs import run


@pytest.mark.once
def test_a_use_of_the_test_images_is_flagged(given, digits, tmp_path):
    given += ["--teacher", "teacher.keras", "--select-on-test"]
    result = run(*given, "--output", tmp_path)
    assert result.exit_code == 2 and "--student student.keras" in result.stderr
    change("digits.npz", x_train=digits[0][64:160])
    result = run(*given, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "FLAG selected_on_test" in result.stdout
    assert "Warning: 32 of 32 test images are also training" in result.stderr
    report = RobustnessReport.load(tmp_path / "run" / "report.json")
    assert not report.reliable
    assert {"selected_on_test", "trained_on_test"} <= set(report.flags)


@pytest.mark.once
def test_attacked_images_are_of_all_classes(given, digits, tmp_path):
    given += ["--teacher", "teacher.keras", "--output", tmp_path / "run"]
    x, y = digits
    order = np.argsort(y[96:128], kind="stable") + 96
    change("digits.npz", x_test=x[order], y_test=y[order])
    result = run(*given, "--autoattack-images", 8)
    assert result.exit_code == 0, result.output
    report = RobustnessReport.load(tmp_path / "run" / "report.json")
    assert len(report.labels) == 8 and len(set(report.labels)) > 3


def test_a_run_on_an_npz_file(given, digits, tmp_path):
    x, y = digits
    result = run(*given)
    assert result.exit_code == 2 and "--teacher" in result.stderr
    for bad in (
        ("--teacher", "no.keras"),
        ("--teacher", "teacher.keras", "--hold-out", 999),
        ("--teacher", "teacher.keras", "--limit", 999),
        ("--teacher", "teacher.keras", "--teacher-checkpoint", "net.pt"),
        ("--teacher", "teacher.keras", "--extra-fraction", 0.3),
    ):
        result = run(*given, *bad)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert " ".join(map(str, bad[-2:])) in result.stderr
    given += ["--extra", "extra.npz", "--extra-fraction", 0.25]
    np.savez("extra.npz", image=x[120:144], label=y[120:144])
    result = run(*given, "--teacher", "teacher.keras")
    assert result.exit_code == 0, result.output
    assert " of 24 images nearly duplicate test images" in result.stderr
    assert "adversarial_accuracy" in result.stdout
    folder = tmp_path / "results" / "cifar10_ard"
    report = RobustnessReport.load(folder / "report.json")
    # At most 99, of 32.
    assert len(report.labels) == 32
    assert "--extra nearly duplicate" in report.flags["near_duplicates"]
    assert keras.models.load_model(folder / "student.keras").built
    # Once more, and there is nothing left to train.
    log = (folder / "log.csv").read_bytes()
    result = run(*given, "--teacher", "teacher.keras")
    assert result.exit_code == 0, result.output
    assert "adversarial_accuracy" not in result.stdout
    assert "duplicate" not in result.stderr
    assert (folder / "log.csv").read_bytes() == log
    given += ["--teacher", "teacher.keras"]
    result = run(*given, "--seed", 1)
    assert result.exit_code == 2
    assert "other values of ['seed']" in result.stderr
    # Another file behind the same name is another run.
    for name in ("teacher.keras", "student.keras", "extra.npz", "digits.npz"):
        file = tmp_path / name
        content = file.read_bytes()
        with file.open("wb") as opened:
            np.savez(opened, image=x[:1], label=y[:1])
        result = run(*given)
        assert result.exit_code == 2
        assert f" {name}: its contents have changed" in result.stderr
        file.write_bytes(content)
    # Earlier versions kept no digests, and always cropped and flipped.
    kept = folder / "arguments.json"
    flags = json.loads(kept.read_text())
    new = ("sha256", "padding", "flip")
    kept.write_text(json.dumps({k: flags[k] for k in flags if k not in new}))
    result = run(*given, "--padding", 0, "--no-flip")
    assert result.exit_code == 2 and "['padding', 'flip']" in result.stderr
    result = run(*given)
    assert result.exit_code == 0, result.output
    assert json.loads(kept.read_text()) == flags
    (folder / "attacks_32.npz").write_text("damaged")
    result = run(*given)
    assert result.exit_code == 2
    assert "cifar10_ard: Argument `state_path`" in result.stderr


@pytest.mark.once
def test_images_are_cropped_and_flipped_by_the_options(given, monkeypatch):
    found = []

    def stop(experiment, arguments):
        found.append(load_data(experiment, arguments)[0].batches.augmentation)
        raise click.UsageError("enough")

    monkeypatch.setattr("keras_adaad.command_line.distil.load_data", stop)
    given += ["--teacher", "teacher.keras"]
    run(*given)
    run(*given, "--padding", 1, "--no-flip")
    assert [(a.padding, a.flip) for a in found] == [(4, True), (1, False)]


@pytest.mark.once
def test_published_accuracies_are_those_of_the_same_data_and_epsilon():
    recipe = RECIPES["RSLAD/cifar10"]
    arguments = types.SimpleNamespace(data="cifar10", epsilon=recipe.epsilon)
    lines = published(recipe, arguments)
    assert lines[0].startswith("published: 51.49 % under AutoAttack, 83.38 %")
    assert lines == published(recipe, types.SimpleNamespace(epsilon=8 / 255))
    for other in ({"data": "images.npz"}, {"epsilon": 0.1}):
        changed = types.SimpleNamespace(**{**vars(arguments), **other})
        assert published(recipe, changed) == []


@pytest.mark.once
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_need_one_teacher(name):
    recipe = RECIPES[name]
    assert recipe.student.lower() in STUDENTS
    trainer = getattr(methods, recipe.method)(
        networks.dense_net("teacher"),
        networks.dense_net("student"),
        **recipe.arguments(),
    )
    assert isinstance(trainer, keras_adaad.Distiller)


@pytest.mark.once
@pytest.mark.parametrize("name", ["PGDAT/cifar10", "SAAD/cifar10", "AdaAD"])
def test_other_recipes_are_refused(name):
    result = run("--recipe", name)
    assert result.exit_code == 2
    assert "AdaAD/cifar10" in result.stderr
    assert result.stderr.count("\n") == 1
