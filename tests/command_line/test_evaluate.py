"""`keras-adaad evaluate` and `compare`: exit codes, bad input, resuming."""

import functools
import os
import pathlib
import signal
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_adaad_cli
from keras_adaad import RobustnessReport
from keras_adaad import attacks
from keras_adaad import export
from keras_adaad.attacks import presets
from keras_adaad.command_line import evaluate as command
from tests import networks
from tests.parameters import once_except

BACKEND = keras.config.backend()
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A linear student, the same on each backend, and 32 digits.

    It is right on 30 of them, and on 19 of these for any change of 4/255.
    """
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("command_line")
    x, y = load_digits().images / 16, load_digits().target
    rows = np.c_[x[32:532].reshape(500, 64), np.ones(500)]
    weights = np.linalg.lstsq(rows, np.eye(10)[y[32:532]], rcond=None)[0]
    inputs = keras.Input(networks.SHAPE)
    head = keras.layers.Dense(10)
    outputs = head(keras.layers.Flatten()(inputs))
    student = keras.Model(inputs, outputs, name="student")
    head.set_weights([weights[:64], weights[64]])
    student.save(folder / "student.keras")
    images = np.float32(x[:32, ..., None])
    np.savez(folder / "test.npz", x_test=images, y_test=y[:32])
    return folder


def run(*arguments):
    arguments = [str(argument) for argument in arguments]
    return CliRunner().invoke(keras_adaad_cli.main, arguments)


def evaluate(folder, *options, model="student.keras", data="test.npz"):
    return run(
        *("evaluate", folder / model, "--data", folder / data),
        *("--epsilon", "4/255", "--attacks", "fgsm", *options),
    )


def test_exit_codes(folder, tmp_path):
    path = tmp_path / "report.json"
    page = tmp_path / "report.html"
    result = evaluate(
        *(folder, "--json", path, "--html", page),
        *("--fail-under", 1, "--strict"),
    )
    assert result.exit_code == 0, result.output
    assert "<html" in page.read_text("utf-8")
    report = RobustnessReport.load(path)
    assert len(report.labels) == 32 and report.reliable
    assert report.clean.sum() == 30
    assert 19 <= report.robust.sum() < 30
    lines = result.stdout.splitlines()
    # No bar and no backspace in a pipe.
    assert lines[:2] == [
        f"fgsm: {report.clean.sum()} images",
        f"robust accuracy {100 * report.robust_accuracy:.2f} %",
    ]
    assert str(report) in result.stdout

    below = 100 * report.robust_accuracy + 0.1
    result = evaluate(folder, "--fail-under", below, "--images", 32)
    assert result.exit_code == 1
    assert "is below --fail-under" in result.stderr


@pytest.mark.once
@pytest.mark.parametrize("robust", range(1, 101))
def test_an_accuracy_of_the_threshold_passes(robust):
    """In floats, 100 times 0.29 is less than 29."""
    report = types.SimpleNamespace(robust=np.arange(100) < robust)
    assert command._exit_code(report, fail_under=robust, strict=False) == 0
    assert command._exit_code(report, fail_under=robust + 1, strict=False) == 1


@pytest.mark.once
def test_a_flag_is_a_failure_if_strict(folder):
    options = ("--epsilon", 0.6, "--images", 4)
    assert evaluate(folder, *options).exit_code == 0
    result = evaluate(folder, *options, "--strict")
    assert result.exit_code == 1
    assert "Failed: --strict, and flagged for epsilon" in result.stderr


@pytest.mark.skipif(BACKEND != "tensorflow", reason="it exports by itself")
def test_one_student_in_three_files(folder, monkeypatch):
    square = functools.partial(attacks.Square, queries=100)
    monkeypatch.setitem(presets.PRESETS, "square", square)
    student = keras.models.load_model(folder / "student.keras")
    reports = []
    for name in ("student.keras", "student.tflite", "student.onnx"):
        path = folder / f"{name}.json"
        options = ["--attacks", "square"]
        if not name.endswith(".keras"):
            export.export_student(student, folder / name)
            options = []  # The default of a file.
        result = run(
            *("evaluate", folder / name, "--data", folder / "test.npz"),
            *("--epsilon", "8/255", "--json", path, *options),
        )
        assert result.exit_code == 0, result.output
        reports.append(RobustnessReport.load(path))
    for report in reports[1:]:
        np.testing.assert_array_equal(report.clean, reports[0].clean)
        assert abs(report.robust.sum() - reports[0].robust.sum()) <= 1
    assert 0 < reports[0].robust.sum() < reports[0].clean.sum()
    result = evaluate(folder, "--attacks", "pgd", model="student.onnx")
    assert result.exit_code == 2 and "follows its gradient" in result.stderr


def of_five_classes(folder):
    inputs = keras.Input(networks.SHAPE)
    outputs = keras.layers.Dense(5)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(folder / "five.keras")


def of_other_images(folder):
    np.savez(folder / "large.npz", x=np.zeros((2, 9, 9, 1)), y=np.arange(2))


def of_a_folder(folder):
    (folder / "photos" / "a").mkdir(parents=True)
    image = np.zeros((8, 8, 1))
    keras.utils.save_img(folder / "photos" / "a" / "0.png", image, scale=False)


def corrupt(name):
    return lambda folder: (folder / name).write_bytes(b"corrupt")


# What the command gets, how that is made, and words of the error.
BAD = {
    "missing model": ({"model": "no.keras"}, None, ["MODEL", "not exist"]),
    "corrupt .keras": (
        {"model": "bad.keras"},
        corrupt("bad.keras"),
        ["bad.keras can't be loaded", "Save or export it again"],
    ),
    "corrupt .tflite": (
        {"model": "bad.tflite"},
        corrupt("bad.tflite"),
        ["bad.tflite can't be loaded"],
    ),
    "corrupt .onnx": (
        {"model": "bad.onnx"},
        corrupt("bad.onnx"),
        ["bad.onnx can't be loaded"],
    ),
    "another ending": (
        {"model": "bad.h5"},
        corrupt("bad.h5"),
        ["MODEL", "bad.h5: give a .keras", "Save other models as a .keras"],
    ),
    "corrupt data": ({"data": "b.npz"}, corrupt("b.npz"), ["--data", "b.npz"]),
    "missing data": ({"data": "no.npz"}, None, ["--data", "give an .npz"]),
    "classes": (
        {"model": "five.keras"},
        of_five_classes,
        ["--data", "[0, 4]", "[0, 9]"],
    ),
    "images": (
        {"data": "large.npz"},
        of_other_images,
        ["--data", "student.keras", "shape (9, 9, 1)", "shape (8, 8, 1)"],
    ),
    "grey images": (
        {"data": "photos"},
        of_a_folder,
        ["--data", "(8, 8, 3)", "as RGB", ".npz file", "shape (8, 8, 1)"],
    ),
    "attack": (["--attacks", "no"], None, ["--attacks no", "'autoattack'"]),
    "epsilon": (["--epsilon", "8/0"], None, ["--epsilon", "8/255"]),
    "nan": (["--fail-under", "nan"], None, ["--fail-under", "nan"]),
    "share": (["--fail-under", "0.45"], None, ["--fail-under", "1<=x<=100"]),
    "folder": (["--json", "no/r.json"], None, ["--json", "no folder"]),
    "json": (["--json", "a.keras"], None, ["--json a.keras", "in .json"]),
    "html": (["--html", "a.keras"], None, ["--html a.keras", "in .html"]),
    "state": (["--state", "no/s.npz"], None, ["--state", "folder"]),
    "adversarial": (
        ["--adversarial", ROOT / "tests/saved_files/data.npz"],
        None,
        ["--adversarial", "x_adv", "x, y"],
    ),
}


@pytest.mark.once
@pytest.mark.parametrize(
    "options",
    [("--attacks", "no"), ("--attacks", "fgsm,no"), ("--norm", "l2")],
)
def test_options_are_refused_before_a_file_is_read(folder, options):
    arguments = ("--data", "none.npz", *options)
    result = run("evaluate", folder / "student.keras", *arguments)
    assert result.exit_code == 2 and "none.npz" not in result.stderr
    assert {"no": "--attacks ", "l2": "--epsilon"}[options[1][-2:]] in (
        result.stderr
    )


@pytest.mark.parametrize("case", once_except(BAD, "corrupt .keras"))
def test_bad_input_is_one_line(case, folder):
    given, make, words = BAD[case]
    if make is not None:
        make(folder)
    if isinstance(given, dict):
        result = evaluate(folder, **given)
    else:
        result = evaluate(folder, *given)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1 and not result.stdout
    for word in words:
        assert word in result.stderr


@pytest.mark.once
def test_images_from_elsewhere_count(folder, tmp_path):
    with np.load(folder / "test.npz") as file:
        x, y = file["x_test"], file["y_test"]
    student = keras.models.load_model(folder / "student.keras")
    attack = attacks.PGD(epsilon=4 / 255, start=None)
    x_adv = attack(student, x, y)
    np.savez(tmp_path / "stronger.npz", x_adv=x_adv)
    np.save(tmp_path / "clean.npy", np.uint8(np.round(255 * x)))
    accuracies = {}
    for name in ("stronger.npz", "clean.npy"):
        path = tmp_path / f"{name}.json"
        options = ("--adversarial", tmp_path / name, "--json", path)
        result = evaluate(folder, *options, "--fail-under", 100)
        # The threshold is for what is known best.
        assert result.exit_code == 1, result.output
        report = RobustnessReport.load(path)
        accuracy = f"{100 * report.robust_accuracy:.2f} %"
        assert f"accuracy, {accuracy}, is below" in result.stderr
        assert report.sources == [name] and "best known" in result.stdout
        accuracies[name] = report.robust_accuracy, report.attacks_accuracy
    assert accuracies["clean.npy"][0] == accuracies["clean.npy"][1]
    best, own = accuracies["stronger.npz"]
    assert own == accuracies["clean.npy"][0] and best <= own
    expected = student.predict(x_adv, verbose=0).argmax(-1) == y
    assert best == (expected & report.robust).mean()


# Dies when an attack is finished and written.
DIE = """
import os, signal, sys
import keras_adaad_cli
from keras_adaad.evaluation.state import State

save = State.save

def save_and_die(self, *arguments):
    save(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)

State.save = save_and_die
keras_adaad_cli.main()
"""


@pytest.mark.once
def test_a_killed_command_resumes(folder, tmp_path):
    options = ("--attacks", "fgsm,pgd-10")
    state = ("--state", tmp_path / "state.npz")
    whole, resumed = tmp_path / "whole.json", tmp_path / "resumed.json"

    def subprocess_of(code, *arguments):
        return subprocess.run(
            [
                *(sys.executable, *code, "evaluate", folder / "student.keras"),
                *("--data", folder / "test.npz", "--epsilon", "4/255"),
                *map(str, [*options, *state, *arguments]),
            ],
            cwd=ROOT,
            env={**os.environ, "KERAS_BACKEND": BACKEND},
            capture_output=True,
            text=True,
        )

    result = subprocess_of(["-c", DIE])
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert "fgsm: " in result.stdout and "pgd-10" not in result.stdout
    result = subprocess_of(
        ["-m", "keras_adaad_cli"], "--json", resumed, "--fail-under", "100"
    )
    assert result.returncode == 1, result.stderr
    assert "fgsm: " not in result.stdout and "pgd-10: " in result.stdout
    assert evaluate(folder, *options, "--json", whole).exit_code == 0
    reports = [RobustnessReport.load(path) for path in (whole, resumed)]
    for a, b in zip(*(report.results for report in reports), strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.robust, b.robust)


@pytest.mark.once
def test_a_folder_without_one_of_the_classes(folder, tmp_path):
    """All labels after it would be wrong."""
    for name in "abc":
        (tmp_path / name).mkdir()
        image = np.zeros((8, 8, 3))
        keras.utils.save_img(tmp_path / name / "0.png", image, scale=False)
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(4)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "student.keras")
    result = evaluate(folder, model=tmp_path / "student.keras", data=tmp_path)
    assert result.exit_code == 2
    assert "3 folders of classes (a, b, c)" in result.stderr
    assert "4 outputs" in result.stderr


@pytest.mark.once
def test_a_report_is_saved_before_it_is_printed(folder, tmp_path, monkeypatch):
    """A terminal may not show a name."""

    def fail(report):
        raise UnicodeEncodeError("ascii", "\xe9", 0, 1, "no")

    monkeypatch.setattr(RobustnessReport, "__str__", fail)
    path = tmp_path / "report.json"
    result = evaluate(folder, "--json", path)
    assert isinstance(result.exception, UnicodeEncodeError)
    assert RobustnessReport.load(path).complete


@pytest.mark.once
def test_compare(tmp_path):
    first, second = (
        ROOT / "tests" / "saved_files" / f"report-{backend}.json"
        for backend in ("tensorflow", "jax")
    )
    result = run("compare", first, second)
    assert result.exit_code == 0, result.output
    reports = [RobustnessReport.load(path) for path in (first, second)]
    assert result.stdout == f"{reports[0].compare(reports[1])}\n"
    (tmp_path / "no.json").write_text("{}")
    result = run("compare", first, tmp_path / "no.json")
    assert result.exit_code == 2
    assert "no.json" in result.stderr and result.stderr.count("\n") == 1
