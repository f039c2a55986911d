"""A file on its runtime, whoever wrote it."""

import keras
import numpy as np
import pytest

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


def multiples(path, dtype, inputs=1, outputs=1, batch="n"):
    """Writes an ONNX file that returns twice and three times its number."""
    import onnx
    from onnx import helper

    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = onnx.numpy_helper.from_array(
        np.array([[2.0, 3.0]]).astype("float32"), "weights"
    )
    nodes = [
        helper.make_node("Cast", ["x0"], ["float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("MatMul", ["float", "weights"], ["y0"]),
        helper.make_node("Identity", ["y0"], ["y1"]),
    ]
    values = [
        [
            helper.make_tensor_value_info(f"{letter}{i}", kind, [batch, size])
            for i in range(count)
        ]
        for letter, kind, size, count in (
            ("x", dtype, 1, inputs),
            ("y", onnx.TensorProto.FLOAT, 2, outputs),
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
