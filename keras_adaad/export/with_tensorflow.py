"""The part of an export that needs TensorFlow, on any backend of Keras.

To write files, Keras must run on TensorFlow. On other backends this module is
run as a program, with the path to write as its argument. It reads
`student.keras` and `images.npz` beside it, and writes `logits.npz` there.
"""

import functools
import pathlib
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_adaad.export.exported import load_exported
from keras_adaad.export.formats import format_of
from keras_adaad.export.samples import input_of
from keras_adaad.export.samples import of_other_size


def write_and_run(student, path, images, calibration_images=None):
    """Writes a student as a file, and returns what the file computes.

    The results are the logits of the images and of `of_other_size(images)`.
    """
    shape, dtype = input_of(student)
    shape = (None, *(images.shape if shape is None else shape)[1:])
    spec = tf.TensorSpec(shape, dtype, name="images")
    write: dict[str, Any] = {
        "litert": functools.partial(_write_litert, images=calibration_images),
        "onnx": _write_onnx,
        "tf_saved_model": _write_saved_model,
    }
    write[format_of(path)](student, str(path), spec)
    deployed = load_exported(path)
    return deployed(images), deployed(of_other_size(images))


# Each passes `training=False`, because layers that augment images do so by
# default.


def _write_saved_model(student, path, spec):
    archive = keras.export.ExportArchive()
    archive.track(student)
    archive.add_endpoint(
        "serve",
        functools.partial(student, training=False),
        input_signature=[spec],
    )
    archive.write_out(path, verbose=False)


def _write_litert(student, path, spec, images):
    options = {}
    if images is not None:

        def samples():
            for image in images:
                yield [image[np.newaxis]]

        int8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        options = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": samples,
            # int8 only: the converter fails if an operation has no int8 form.
            "target_spec": {"supported_ops": [int8]},
        }
    # Keras itself passes `training=False` here.
    student.export(
        path, "litert", verbose=False, input_signature=[spec], **options
    )


def _write_onnx(student, path, spec):
    import onnx
    import tf2onnx

    @functools.partial(tf.function, input_signature=[spec])
    def serve(images):
        return {"logits": student(images, training=False)}

    model, _ = tf2onnx.convert.from_function(serve, [spec])
    # A tensor that the student holds beside its variables, such as the mean of
    # a `Normalization`, has become an input of the graph: make it a constant.
    function = serve.get_concrete_function()
    held = {
        tensor.name: value
        for tensor, value in zip(
            reversed(function.inputs),
            reversed(function.captured_inputs),
            strict=False,
        )
    }
    used = {name for node in model.graph.node for name in node.input}
    for tensor in list(model.graph.input):
        if tensor.name in held:
            model.graph.input.remove(tensor)
            if tensor.name in used:
                value = held[tensor.name].numpy()
                constant = onnx.numpy_helper.from_array(value, tensor.name)
                model.graph.initializer.append(constant)
    onnx.save(model, path)


def main(path):
    """Exports the `student.keras` beside `path` to `path`."""
    folder = pathlib.Path(path).parent
    student = keras.saving.load_model(
        folder / "student.keras",
        compile=False,
        # The file comes from the parent process, and may hold functions.
        safe_mode=False,
    )
    with np.load(folder / "images.npz") as images:
        batch, other = write_and_run(student, pathlib.Path(path), **images)
    np.savez(folder / "logits.npz", batch=batch, other=other)


if __name__ == "__main__":
    main(*sys.argv[1:])
