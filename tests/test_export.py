"""Students as files: what the file computes, and how robust the file is."""

import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad.export import export_student
from keras_adaad.export import load_exported
from tests import networks
from tests.attacks import oracles

pytest.importorskip("ai_edge_litert", reason="needs the extra `edge`")
pytest.importorskip("onnxruntime", reason="needs the extra `edge`")

ROOT = pathlib.Path(__file__).parent.parent
EPSILON = 0.1
FILES = (
    *("saved_model", "student.onnx", "student.tflite"),
    *("dense_int8.onnx", "int8.tflite"),
)
on_tensorflow = pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="in a process of TensorFlow, which the example tests",
)


# Elsewhere each file takes a process that starts TensorFlow.
if keras.config.backend() != "tensorflow":
    FILES = FILES[1:2] + FILES[3:]


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """What the example printed, shortened, and the folder of its files."""
    folder = tmp_path_factory.mktemp("edge")
    options = ["--epochs", "3"]
    if keras.config.backend() != "tensorflow":
        options = ["--student", str(folder / "trained.keras")]
        oracles.trained_pair()[0].save(options[1])
    options += ["--epsilon", str(EPSILON), "--queries", "150", "--limit", "96"]
    options += ["--files", *FILES]
    result = subprocess.run(
        [
            *(sys.executable, "examples/export_to_edge.py"),
            *("--output", folder, *options),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, folder


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
    printed, folder = example
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
    assert report.model_name == "student.onnx" and report.flags == {}
    np.testing.assert_array_equal(report.robust, expected.robust)


@on_tensorflow
def test_depthwise_convolutions_and_padding(tmp_path):
    """What MobileNetV2 is made of: TensorFlow's fusion of it is fragile."""
    inputs = keras.Input((12, 12, 3))
    h = keras.layers.ZeroPadding2D(1)(inputs)
    h = keras.layers.DepthwiseConv2D(3, strides=2)(h)
    h = keras.layers.BatchNormalization()(h)
    h = keras.layers.ReLU()(h)
    outputs = keras.layers.Dense(4)(keras.layers.Flatten()(h))
    student = networks.randomized(keras.Model(inputs, outputs), seed=0)
    x = np.random.default_rng(0).uniform(size=(4, 12, 12, 3))
    x = x.astype("float32")
    expected = student.predict(x, verbose=0)
    scale = np.abs(expected).max()
    for name in ("student.tflite", "student.onnx", "student"):
        logits = load_exported(export_student(student, tmp_path / name))(x)
        np.testing.assert_allclose(logits, expected, atol=1e-4 * scale)


@on_tensorflow
def test_a_student_in_lower_precision(tmp_path, batch):
    """The file has its weights, which are float32, and computes with them."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    student = networks.student_net()
    expected = student.predict(batch[0], verbose=0)
    path = export_student(student, tmp_path / "student.tflite")
    logits = load_exported(path)(batch[0])
    np.testing.assert_allclose(
        logits, expected, atol=0.05 * np.abs(expected).max()
    )


@on_tensorflow
def test_a_file_that_takes_and_returns_integers(tmp_path, batch):
    """As microcontrollers want it: written by Keras itself."""
    import tensorflow as tf

    x, _ = batch
    student, path = networks.student_net(), tmp_path / "integers.tflite"
    student.export(
        str(path),
        format="litert",
        verbose=False,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[None]] for image in x),
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
        inference_input_type=tf.int8,
        inference_output_type=tf.int8,
    )
    deployed = load_exported(path)
    expected = student.predict(x, verbose=0)
    logits = deployed(x)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(
        logits, expected, atol=0.1 * np.abs(expected).max()
    )
    # The file's images have 255 steps: less than half a step is nothing.
    x = (np.round(255 * x) / 255).astype("float32")
    moved = deployed((x + 0.001).clip(0, 1))
    np.testing.assert_array_equal(moved, deployed(x))


# What is refused.


def quantized(student):
    student.quantize(
        "int8", filters=lambda layer: isinstance(layer, keras.layers.Dense)
    )
    return student


@pytest.mark.parametrize(
    "arguments, message",
    [
        (lambda: (networks.student_net(), "student.pb"), "tflite.*student.pb"),
        (
            lambda: (networks.student_net(), "a.onnx", np.zeros((2, 8, 8, 1))),
            "calibration_images.*onnx",
        ),
        (
            lambda: (networks.student_net(), "a.tflite", np.zeros((0, 8))),
            "calibration_images.*non-empty",
        ),
        (
            lambda: (networks.Subclassed(4), "a.onnx"),
            "student.*built",
        ),
        (
            lambda: (quantized(networks.student_net()), "a.tflite"),
            "calibration_images",
        ),
    ],
)
def test_what_is_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        export_student(*arguments())
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_exported(tmp_path / "student.tflite")
    with pytest.raises(ValueError, match="tflite"):
        load_exported(tmp_path / "student.h5")
    with pytest.raises(TypeError, match="student"):
        export_student("student.keras", tmp_path / "student.onnx")


@keras.saving.register_keras_serializable(package="tests")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x


@pytest.mark.skipif(
    keras.config.backend() == "tensorflow", reason="of a process of TensorFlow"
)
def test_layers_of_ones_own_need_tensorflow_here(tmp_path):
    inputs = keras.Input((4,))
    student = keras.Model(inputs, Doubled()(keras.layers.Dense(3)(inputs)))
    with pytest.raises(RuntimeError, match="layers of your own"):
        export_student(student, tmp_path / "student.onnx")
