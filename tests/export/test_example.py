"""The example: what its files compute, and how robust they are."""

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad.export import load_exported
from tests.oracles import attacks as oracles

pytest.importorskip("ai_edge_litert", reason="needs the extra `edge`")
pytest.importorskip("onnxruntime", reason="needs the extra `edge`")

pytestmark = pytest.mark.skipif(
    keras.config.backend() == "jax", reason="PyTorch writes its files alike"
)

EPSILON = 0.1
FILES = (
    *("saved_model", "student.onnx", "student.tflite"),
    *("dense_int8.onnx", "int8.tflite"),
)
# Elsewhere each file takes a process that starts TensorFlow.
if keras.config.backend() != "tensorflow":
    FILES = FILES[1:2] + FILES[3:]


@pytest.fixture(scope="module")
def example(run_example, tmp_path_factory):
    """What the example printed, shortened, and the folder of its files."""
    folder = tmp_path_factory.mktemp("edge")
    options = ["--output", folder, "--epochs", 3]
    if keras.config.backend() != "tensorflow":
        options = ["--output", folder, "--student", folder / "trained.keras"]
        oracles.trained_pair()[0].save(options[-1])
    options += ["--epsilon", EPSILON, "--queries", 150, "--limit", 96]
    return run_example("export_to_edge", *options, "--files", *FILES), folder


def rows(printed, begin):
    """Returns the numbers of each row of a table, by the name of the file."""
    table = {}
    for line in printed.split(begin)[1].split("\n\n")[0].splitlines():
        name, *numbers = line.split()
        if name in ("student.keras", *FILES):
            table[name] = [float(v.strip("[],")) for v in numbers]
    assert list(table) == ["student.keras", *FILES]
    return table


def test_files_compute_what_the_student_does(example, digits):
    _, folder = example
    x = digits[0][:50]
    student = keras.models.load_model(folder / "student.keras")
    expected = student.predict(x, verbose=0)
    scale = np.abs(expected).max()
    assert scale > 1.0
    # Rounding of float32; int8 of one layer; int8 of all.
    tolerances = {"dense_int8.onnx": 0.02, "int8.tflite": 0.1}
    apart = {}
    for name in FILES:
        deployed = load_exported(folder / name, threads=1)
        logits = deployed(x)
        assert logits.dtype == np.float32 and logits.shape == expected.shape
        apart[name] = np.abs(logits - expected).max() / scale
        assert apart[name] < tolerances.get(name, 1e-5), name
        # Any batch size, and the images beside an image change nothing.
        alone = np.concatenate([deployed(x[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(alone, logits[:5], atol=1e-5 * scale)
    # They do compute in int8.
    assert min(apart["dense_int8.onnx"], apart["int8.tflite"]) > 1e-4


def test_tables_of_the_example(example):
    printed, _ = example
    sizes = rows(printed, "Logits lie within")
    for name, (size, milliseconds, *_) in sizes.items():
        assert size > 5.0 and 0.0 < milliseconds < 100.0, name
    assert sizes["int8.tflite"][0] < 0.6 * sizes["student.onnx"][0]
    accuracies = rows(printed, "Accuracy on 96 test images")
    clean, low, high, pgd, square, both, both_low, both_high = accuracies[
        "student.keras"
    ]
    assert clean > 80 and both <= min(pgd, square) and both_low > 10
    for name, (clean_of_file, *_, both_of_file, _, _, p) in (
        (name, row) for name, row in accuracies.items() if name in FILES
    ):
        assert low <= clean_of_file <= high, name
        assert both_low <= both_of_file <= both_high, name
        assert p > 0.01, name
    for name in set(FILES) - {"dense_int8.onnx", "int8.tflite"}:
        assert accuracies[name][:-1] == accuracies["student.keras"], name


def test_a_file_under_attack(example, digits):
    """Square on the file finds what it finds on the student."""
    _, folder = example
    x, y = (array[:48] for array in digits)
    student = keras.models.load_model(folder / "student.keras")
    square = keras_adaad.attacks.Square(epsilon=EPSILON, queries=120, seed=0)
    options = {"curve": False, "verbose": 0}
    expected = keras_adaad.evaluate_robustness(
        student, x, y, [square], EPSILON, reliability_checks=False, **options
    )
    assert expected.robust_accuracy < expected.clean_accuracy
    report = keras_adaad.evaluate_robustness(
        *(load_exported(folder / "student.onnx"), x, y, [square], EPSILON),
        **options,
    )
    assert report.model_name == "student.onnx"
    assert set(report.flags) == {"weak_attacks"}  # So few queries.
    np.testing.assert_array_equal(report.robust, expected.robust)
