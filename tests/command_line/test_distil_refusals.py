"""What `keras-adaad distil` refuses, before it takes long."""

import pathlib

import keras
import numpy as np
import pytest

from tests import networks
from tests.command_line.distil_runs import change
from tests.command_line.distil_runs import run


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
    pathlib.Path("digits.npz").unlink()  # The data are not read.
    result = run(*given, "--teacher", "teacher.keras", "--output", folder)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "--output run: it has" in result.stderr and name in result.stderr
    assert (folder / name).read_text() == content
    assert {path.name for path in folder.iterdir()} == {name, "backup"}


@pytest.mark.once
def test_a_wrong_value_is_named_before_the_data_are_read(given):
    pathlib.Path("no_zip.npz").write_text("no zip")
    pathlib.Path("file").touch()
    np.save("array.npy", np.zeros(3))
    given += ["--data", "no.npz", "--teacher", "teacher.keras"]
    for bad, fix in (
        (("--teacher", "no.keras"), "no such file"),
        (("--teacher", "Rade2021"), "id of a model"),
        (("--teacher", "Rade2021Helper_R18_ddpm"), "--download"),
        (("--student", "no.keras"), "no such file"),
        (("--student", "resnet"), "give resnet18, mobilenetv2"),
        (("--extra", "no.npz"), "no such file"),
        (("--extra", "no_zip.npz"), "must be an .npz file"),
        (("--extra", "array.npy"), "must be an .npz file"),
        (("--extra", "array.npy", "--extra-fraction", 1.0), "in [0, 1)"),
        (("--output", "file"), "Give a folder"),
        (("--output", "file/run"), "Give a folder"),
        (("--output", "/proc/none/run"), "Give a folder"),
        (("--devices", 2), "--devices 2 "),
    ):
        result = run(*given, *bad)
        assert result.exit_code == 2, result.output
        assert result.stderr.count("\n") == 1, result.stderr
        assert " ".join(map(str, bad[-2:])) in result.stderr
        assert fix in result.stderr
    assert not pathlib.Path("results").exists()


@pytest.mark.once
def test_devices_share_the_images_that_are_held_out(given):
    given += ["--teacher", "teacher.keras", "--devices", 3]
    result = run(*given)
    assert result.exit_code == 2
    assert "--hold-out 32 must be a multiple of --devices 3" in result.stderr


@pytest.mark.once
def test_the_test_images_are_looked_at_before_the_training(given, tmp_path):
    with np.load("digits.npz") as file:
        arrays = {k: v for k, v in file.items() if "test" not in k}
    np.savez("digits.npz", **arrays)
    given += ["--teacher", "teacher.keras", "--output", tmp_path / "run"]
    result = run(*given)
    assert result.exit_code == 2 and "x_test" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.once
def test_data_are_looked_at_before_the_training(given, digits, tmp_path):
    given += ["--teacher", "teacher.keras", "--output", tmp_path / "run"]
    x, y = digits
    changes = {
        "class indices": {"y_test": y[96:128] + 1},
        "--data digits.npz: y_train holds the class 10, and --teacher "
        "teacher.keras has 10 outputs": {"y_train": y[:96] + 1},
    }
    for text, arrays in changes.items():
        result = run(*given, "--data", change("bad.npz", **arrays))
        assert result.exit_code == 2
        assert text.replace("digits", "bad") in result.stderr
    unlike = np.zeros((9, 8, 8, 1), "uint8")
    extra = {
        "label holds the class 10, and": {"image": x[:9], "label": [10] * 9},
        "it must hold images of the size": {"image": x[:9, 1:], "label": y[:9]},
        "uint8, and (8, 8, 1) float32": {"image": unlike, "label": y[:9]},
        "`label` must be a class index": {"image": x[:9], "label": y[:8]},
        "`image` must hold images of uint8": {
            "image": x[:9] - 1,
            "label": y[:9],
        },
        "no array label, and ARD learns from labels": {"image": x[:9]},
        "must hold an array image": {"x": x[:9]},
    }
    for text, arrays in extra.items():
        np.savez("extra.npz", **arrays)
        result = run(*given, "--extra", "extra.npz")
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert "distil: --extra extra.npz: " in result.stderr
        assert text in result.stderr
    for name, part in {"x_train": x[:96], "x_test": x, "y_test": y}.items():
        np.save(f"{name}.npy", part)
    result = run(*given, "--data", ".")
    assert result.exit_code == 2
    assert "--data .: it has no y_train, and ARD" in result.stderr
    # A run that has not begun has left nothing.
    assert not (tmp_path / "run").exists()


def soft(network):
    outputs = keras.layers.Softmax()(network.output)
    return keras.Model(network.input, outputs)


@pytest.mark.once
def test_a_fault_of_the_teacher_is_not_the_students(given):
    teacher = networks.dense_net("soft")
    soft(teacher).save("soft.keras")
    scaled = soft(teacher)
    outputs = keras.layers.Rescaling(1.0)(scaled.output)
    keras.Model(scaled.input, outputs).save("hidden.keras")
    for name in ("soft.keras", "hidden.keras"):
        result = run(*given, "--teacher", name)
        assert result.exit_code == 2
        assert f"distil: --teacher {name}: " in result.stderr
