"""`keras-adaad distil`; tests/test_cifar_examples.py kills and resumes it."""

import json
import pathlib
import types

import click
import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_adaad
import keras_adaad_cli
from keras_adaad import RobustnessReport
from keras_adaad import methods
from keras_adaad.attacks import presets
from keras_adaad.command_line.distil import RECIPES
from keras_adaad.command_line.distil import STUDENTS
from keras_adaad.command_line.distil import published
from keras_adaad.command_line.duplicates import flags_of_copies
from keras_adaad.command_line.duplicates import flags_of_extra
from keras_adaad.command_line.experiment import load_data
from keras_adaad.command_line.run_folder import digests_of
from keras_adaad.data import load_arrays
from tests import networks


def run(*arguments):
    arguments = [str(argument) for argument in arguments]
    return CliRunner().invoke(keras_adaad_cli.main, ["distil", *arguments])


@pytest.fixture
def given(digits, tmp_path, monkeypatch):
    """Flags of a run on digits, whose files are in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(presets.PRESETS, "autoattack", presets.PRESETS["fgsm"])
    x, y = digits
    np.savez(
        "digits.npz",
        **{"x_train": x[:96], "y_train": y[:96]},
        **{"x_test": x[96:128], "y_test": y[96:128]},
    )
    for name in ("teacher", "student"):
        networks.dense_net(name).save(f"{name}.keras")
    return [
        *("--recipe", "ARD/cifar10", "--data", "digits.npz"),
        *("--student", "student.keras", "--epochs", 1, "--hold-out", 32),
        *("--batch-size", 32, "--autoattack-images", 99),
    ]


@pytest.mark.once
def test_a_use_of_the_test_images_is_flagged(given, digits, tmp_path):
    given += ["--teacher", "teacher.keras", "--select-on-test"]
    result = run(*given, "--output", tmp_path)
    assert result.exit_code == 2 and "--student student.keras" in result.stderr
    change(x_train=digits[0][64:160])
    result = run(*given, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "FLAG selected_on_test" in result.stdout
    assert "Warning: 32 of 32 test images are also training" in result.stderr
    report = RobustnessReport.load(tmp_path / "run" / "report.json")
    assert not report.reliable
    assert {"selected_on_test", "trained_on_test"} <= set(report.flags)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", "epoch,val_robust_accuracy\n0,0.1\n1,0.2\n"),
        ("attacks_32.npz", "of another seed"),
        ("report.json", "{}"),
    ],
)
def test_what_a_run_without_a_backup_left_is_kept(given, name, content):
    folder = pathlib.Path("run")
    (folder / "backup").mkdir(parents=True)
    (folder / name).write_text(content)
    # Not even the networks are read.
    result = run(*given, "--teacher", "no.keras", "--output", folder)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "--output run: it has" in result.stderr and name in result.stderr
    assert (folder / name).read_text() == content
    assert {path.name for path in folder.iterdir()} == {name, "backup"}


@pytest.mark.once
def test_the_test_images_are_looked_at_before_the_training(given, tmp_path):
    with np.load("digits.npz") as file:
        arrays = {k: v for k, v in file.items() if "test" not in k}
    np.savez("digits.npz", **arrays)
    given += ["--teacher", "teacher.keras", "--output", tmp_path / "run"]
    result = run(*given)
    assert result.exit_code == 2 and "x_test" in result.stderr
    assert not (tmp_path / "run").exists()


def change(**arrays):
    with np.load("digits.npz") as file:
        arrays = {**file, **arrays}
    np.savez("digits.npz", **arrays)


@pytest.mark.once
def test_labels_are_looked_at_before_the_training(given, digits, tmp_path):
    given += ["--teacher", "teacher.keras", "--output", tmp_path / "run"]
    _, y = digits
    change(y_test=y[96:128] + 1)
    result = run(*given)
    assert result.exit_code == 2 and "class indices" in result.stderr
    change(y_test=y[96:128])
    np.savez("extra.npz", image=digits[0][:9], label=[10] * 9)
    result = run(*given, "--extra", "extra.npz")
    assert result.exit_code == 2 and "--extra extra.npz" in result.stderr
    np.savez("extra.npz", image=digits[0][:9, 1:], label=[1] * 9)
    result = run(*given, "--extra", "extra.npz")
    assert result.exit_code == 2
    assert ": --extra must hold images of the size" in result.stderr
    assert not (tmp_path / "run").exists()
    change(y_train=y[:96] + 1)
    result = run(*given)
    assert result.exit_code == 2 and "--data digits.npz" in result.stderr
    # A run that has not begun has no flags that another must share.
    change(y_train=y[:96])
    result = run(*given, "--seed", 1)
    assert result.exit_code == 0, result.output


@pytest.mark.once
def test_attacked_images_are_of_all_classes(given, digits, tmp_path):
    given += ["--teacher", "teacher.keras", "--output", tmp_path / "run"]
    x, y = digits
    order = np.argsort(y[96:128], kind="stable") + 96
    change(x_test=x[order], y_test=y[order])
    result = run(*given, "--autoattack-images", 8)
    assert result.exit_code == 0, result.output
    report = RobustnessReport.load(tmp_path / "run" / "report.json")
    assert len(report.labels) == 8 and len(set(report.labels)) > 3


@pytest.mark.once
def test_devices_share_the_images_that_are_held_out(given):
    given += ["--teacher", "teacher.keras", "--devices", 3]
    result = run(*given)
    assert result.exit_code == 2
    assert "--hold-out 32 must be a multiple of --devices 3" in result.stderr


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
        file.write_bytes(b"other")
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


@pytest.mark.parametrize("pipeline", ["py_dataset", None])
def test_copies_of_test_images_are_counted(pipeline, capsys):
    x = np.random.default_rng(0).integers(256, size=(300, 8, 8, 3)).astype("u1")
    train, held_out = (
        load_arrays(images, training=training, pipeline=pipeline)
        for images, training in ((x[:200], True), (x[200:] / 255, False))
    )
    new = np.random.default_rng(1).random((100, 8, 8, 3), "float32")
    for copies, found in ((0, ""), (1, "1 of 100"), (3, "3 of 100")):
        x_test = np.concatenate([x[:copies] / np.float32(255), new[copies:]])
        flags = flags_of_copies([train, held_out], x_test)
        assert found in capsys.readouterr().err
        assert ("trained_on_test" in flags) == (copies > 1)
    flags = flags_of_copies([held_out], x[200:] / np.float32(255))
    assert "100 of 100 test images" in flags["trained_on_test"]


@pytest.mark.once
def test_extra_images_are_compared_again_if_they_have_changed(
    digits, tmp_path, capsys
):
    x_test = digits[0][:16]
    noise = np.random.default_rng(0).random((9, 8, 8, 1), "float32")
    arguments = types.SimpleNamespace(output=tmp_path, extra=tmp_path / "x.npz")
    kept = tmp_path / "near_duplicates.txt"
    kept.write_text("0")  # Of an earlier version.
    for image, found in ((noise, 0), (x_test[:5], 5), (x_test[:5], 5)):
        np.savez(arguments.extra, image=image)
        arguments.sha256 = digests_of(arguments)
        flags = flags_of_extra(arguments, x_test)
        assert found == int(flags.get("near_duplicates", "0")[0])
    # The third time nothing had changed.
    assert capsys.readouterr().err.count("Warning: 5 of 5 images") == 1
    np.savez(arguments.extra, image=noise)
    arguments.sha256 = digests_of(arguments)
    assert flags_of_extra(arguments, x_test) == {}
    assert flags_of_extra(arguments, noise) != {}
    arguments.extra = None
    assert flags_of_extra(arguments, noise) == {} and not kept.exists()


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
def test_a_folder_of_images_is_known_by_names_and_sizes(tmp_path):
    arguments = types.SimpleNamespace(data=str(tmp_path))
    image = tmp_path / "train" / "cat" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"123")
    np.save(tmp_path / "x_test.npy", np.zeros(3))
    digests = [digests_of(arguments)]
    image.write_bytes(b"1234")
    digests.append(digests_of(arguments))
    image.rename(image.with_name("2.png"))
    digests.append(digests_of(arguments))
    np.save(tmp_path / "x_test.npy", np.ones(3))
    digests.append(digests_of(arguments))
    assert len({digest["data"] for digest in digests}) == 4
    # The folder of the run may be there too.
    (tmp_path / "robustness.png").touch()
    assert digests_of(arguments) == digests[-1]


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
