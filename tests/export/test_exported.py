"""A file on its runtime, whoever wrote it."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import keras_adaad_cli
from keras_adaad import evaluate_robustness
from keras_adaad.attacks import Square
from keras_adaad.export import load_exported
from tests import networks

pytest.importorskip("ai_edge_litert", reason="needs the extra `edge`")
pytest.importorskip("onnxruntime", reason="needs the extra `edge`")

on_tensorflow = pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="Keras writes LiteRT on TensorFlow",
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
    # Its scale is for [0, 1]. In a range of a few steps images are black.
    deployed.check_input_range((0.0, 1.0))
    with pytest.raises(ValueError, match="int8 with a scale of 0.00"):
        deployed.check_input_range((0.0, 0.05))
    # LiteRT itself would take images of any size.
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*\(32, 7, 8, 1\)"):
        deployed(x[:, 1:])
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*\(8, 8, 1\)"):
        deployed(x[0])


@on_tensorflow
def test_a_litert_file_with_a_fixed_batch_takes_any_number(tmp_path, batch):
    """It reshapes to one image: the interpreter could not resize it."""
    import tensorflow as tf

    weights = np.random.default_rng(0).normal(size=(64, 10)).astype("float32")

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 1))])
    def classify(x):
        return tf.reshape(x, (1, 64)) @ weights

    function = classify.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    path = tmp_path / "fixed.tflite"
    path.write_bytes(converter.convert())
    x = batch[0][:3]
    np.testing.assert_allclose(
        load_exported(path)(x), x.reshape(3, 64) @ weights, atol=1e-4
    )


def multiples(path, dtype, inputs=1, outputs=1, batch="n", shape=(1,)):
    """Writes an ONNX file that returns twice and three times its number."""
    import onnx
    from onnx import helper

    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = onnx.numpy_helper.from_array(
        np.array([[2.0, 3.0]]).astype("float32"), "weights"
    )
    nodes = [
        helper.make_node("Cast", ["x0"], ["float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["y0"]),
        helper.make_node("Identity", ["y0"], ["y1"]),
    ]
    values = [
        [
            helper.make_tensor_value_info(f"{letter}{i}", kind, [batch, *sizes])
            for i in range(count)
        ]
        for letter, kind, sizes, count in (
            ("x", dtype, shape, inputs),
            ("y", onnx.TensorProto.FLOAT, (2,), outputs),
        )
    ]
    graph = helper.make_graph(nodes, "multiples", *values, [weights])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, path)
    return path


@pytest.mark.once
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8"])
def test_the_dtype_of_a_file(dtype, tmp_path):
    deployed = load_exported(multiples(tmp_path / "a.onnx", dtype))
    x = np.array([[0.0], [7.0], [254.6], [300.0]])
    logits = deployed(x)
    assert logits.dtype == np.float32
    if dtype == "uint8":  # Rounded, and not cut off or wrapped around.
        x = np.array([[0.0], [7.0], [255.0], [255.0]])
    np.testing.assert_allclose(logits, x * [[2.0, 3.0]], rtol=1e-3)


@pytest.mark.once
@pytest.mark.parametrize("input_range", [(0.0, 1.0), (-128.0, 127.0)])
def test_a_file_of_integers_refuses_other_images(input_range, tmp_path):
    """It would round them to a few values, so that all are black."""
    path = multiples(tmp_path / "a.onnx", "uint8")
    deployed = load_exported(path)
    low, high = input_range
    x, y = np.linspace(low, high, 4, dtype="float32")[:, None], np.ones(4, int)
    square = Square(epsilon=0.1, queries=10, input_range=input_range)
    with pytest.raises(ValueError, match=r"a.onnx takes uint8 .* float input"):
        square(deployed, x, y)
    with pytest.raises(ValueError, match=r"Received: input_range=\("):
        evaluate_robustness(
            deployed, x, y, "square", 0.1, input_range=input_range
        )


@pytest.mark.once
def test_a_file_of_integers_takes_whole_numbers(tmp_path):
    """It is attacked in their units."""
    path = multiples(tmp_path / "a.onnx", "uint8", shape=(1, 1, 1))
    deployed = load_exported(path)
    x = np.array([0, 7, 200, 255], "uint8").reshape(4, 1, 1, 1)
    ball = {"epsilon": 8, "input_range": (0, 255)}
    square = Square(queries=10, **ball)
    report = evaluate_robustness(deployed, x, [1] * 4, square, **ball)
    assert report.clean.tolist() == [False, True, True, True]
    assert report.robust.tolist() == [False, False, True, True]
    with pytest.warns(UserWarning, match=r"uint8, and these lie in \[-1, 1\]"):
        deployed(x / 255)


@pytest.mark.once
def test_the_command_refuses_a_file_of_integers(tmp_path):
    path = multiples(tmp_path / "a.onnx", "uint8")
    # Before the data: there are none.
    arguments = ["evaluate", str(path), "--data", "none.npz"]
    result = CliRunner().invoke(keras_adaad_cli.main, arguments)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert f"MODEL {path}: Argument `input_range`" in result.stderr


@pytest.mark.once
@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_with_a_fixed_batch_takes_any_number(batch, tmp_path):
    deployed = load_exported(
        multiples(tmp_path / "a.onnx", "float32", batch=batch)
    )
    x = np.arange(7.0)[:, None]
    np.testing.assert_allclose(deployed(x), x * [[2.0, 3.0]])


@pytest.mark.once
def test_files_that_are_no_classifier(tmp_path):
    path = multiples(tmp_path / "a.onnx", "float32", inputs=2)
    with pytest.raises(ValueError, match="one input.*2 inputs"):
        load_exported(path)
    path = multiples(tmp_path / "b.onnx", "float32", outputs=2)
    with pytest.raises(ValueError, match="one output.*2 outputs"):
        load_exported(path)


@on_tensorflow
def test_a_saved_model_of_others(tmp_path):
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), tmp_path / "module")
    with pytest.raises(ValueError, match="`serve`.*module"):
        load_exported(tmp_path / "module")


@pytest.mark.once
def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_exported(tmp_path / "student.tflite")
    with pytest.raises(ValueError, match="tflite"):
        load_exported(tmp_path / "student.h5")
