"""`keras-adaad teachers`."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_adaad_cli
from keras_adaad.teachers import TeacherRanking
from tests import networks
from tests.parameters import once_except


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty digits, a student, a teacher that is its copy, and another."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("teachers")
    digits = load_digits()
    x = np.float32(digits.images / 16)[:60, ..., None]
    np.savez(folder / "digits.npz", x_train=x, y_train=digits.target[:60])
    student = networks.dense_net("student")
    student.save(folder / "student.keras")
    student.save(folder / "same.keras")
    networks.dense_net("other").save(folder / "other.keras")
    inputs = keras.Input(networks.SHAPE)
    outputs = keras.layers.Dense(5)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(folder / "five.keras")
    (folder / "bad.keras").write_bytes(b"corrupt")
    return folder


def run(folder, *arguments):
    options = ["--student", folder / "student.keras", "--warmup", 0]
    options += ["--data", folder / "digits.npz", "--epsilon", "16/255"]
    arguments = [str(argument) for argument in [*options, *arguments]]
    return CliRunner().invoke(keras_adaad_cli.main, ["teachers", *arguments])


def test_ranking(folder, tmp_path):
    given = [folder / "other.keras", folder / "same.keras"]
    given += ["--state", tmp_path / "state.json"]
    given += ["--json", tmp_path / "r.json", "--plot", tmp_path / "r.png"]
    result = run(folder, *given)
    assert result.exit_code == 0, result.output
    ranking = TeacherRanking.load(tmp_path / "r.json")
    assert ranking.best == "same" and ranking.num_images == 60
    assert ranking.rows()[0]["transferable"] == 1.0
    assert result.stdout.startswith("other:\n")
    assert "same:\n100.0 % transferable\n" in result.stdout
    assert str(ranking) in result.stdout
    assert (tmp_path / "r.png").stat().st_size > 0
    again = run(folder, *given)
    assert again.exit_code == 0
    assert again.stdout.startswith("Teachers for student: 60 images, epsilon")


@pytest.mark.once
@pytest.mark.parametrize("arrays", [False, True])
def test_a_folder_of_training_images_alone(arrays, tmp_path):
    x, y = np.zeros((60, 32, 32, 3), "uint8"), np.arange(60) % 5
    x += np.arange(60, dtype="uint8").reshape(60, 1, 1, 1)
    if arrays:
        np.save(tmp_path / "x_train.npy", x)
        np.save(tmp_path / "y_train.npy", y)
    for place, label in enumerate([] if arrays else y):
        path = tmp_path / "train" / f"c{label}" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, x[place], scale=False)
    options = ["--student", "mobilenetv2", "--data", tmp_path]
    # The student gets the five classes: the first teacher is at fault.
    result = run(tmp_path, "a.keras", "b.keras", *options)
    assert result.exit_code == 2
    assert "a.keras" in result.stderr and "TEACHER" in result.stderr


BAD = {
    "one": (["same.keras"], "TEACHER"),
    "missing": (["same.keras", "no.keras"], "no.keras"),
    "corrupt": (["same.keras", "bad.keras"], "teachers['bad']"),
    "classes": (["same.keras", "five.keras"], "teachers['five']"),
    "unknown": (["same.keras", "Chen2021LTD_WRN34"], "Did you mean"),
    "no file": (
        ["same.keras", "Addepalli2022Efficient_RN18=no.pt"],
        "--download",
    ),
    "twice": (["same.keras", "same.keras"], "the same name"),
    "a name": (["a=same.keras", "a=other.keras"], "the same name"),
    "no such name": (["a=no.keras", "b=same.keras"], "no.keras"),
    "student": (["same.keras", "other.keras", "--student", "x"], "--student x"),
    "data": (["same.keras", "other.keras", "--data", "x"], "--data x"),
    "epsilon": (["same.keras", "other.keras", "--epsilon", "0"], "--epsilon 0"),
    "images": (["same.keras", "other.keras", "--images", "9"], "--images"),
    "state": (["same.keras", "other.keras", "--state", "n/s"], "--state n/s"),
    "plot": (["same.keras", "other.keras", "--plot", "r.foo"], "--plot r.foo"),
    "json": (["same.keras", "--json", "n/r.json"], "--json n/r.json"),
    "json of a model": (["a.keras", "--json", "same.keras"], "end in .json"),
}


@pytest.mark.parametrize("case", once_except(BAD, "corrupt"))
def test_bad_input_is_one_line(case, folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments, words = BAD[case]
    result = run(folder, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
