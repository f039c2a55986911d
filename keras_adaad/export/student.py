"""A student as a file that runs without Keras."""

import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np

from keras_adaad import checks
from keras_adaad.export.formats import check_calibration_images
from keras_adaad.export.formats import format_of
from keras_adaad.models import with_dtype


def export_student(student, path, calibration_images=None):
    """Writes a student for a device, as LiteRT, ONNX or SavedModel.

    | `path` | format | runtime |
    |---|---|---|
    | `"student.tflite"` | LiteRT, once TensorFlow Lite | `ai-edge-litert` |
    | `"student.onnx"` | ONNX | `onnxruntime` |
    | `"student"`, a folder | SavedModel | `tensorflow` |

    Keras's own exporters write all of them, and they do so in TensorFlow. On
    JAX and PyTorch the student goes to a process of TensorFlow as a `.keras`
    file: the files are the same whatever backend it was trained on.

    With `calibration_images` the file computes in int8, activations included,
    as the accelerators of devices do. What that does to the robustness is to
    be measured on the file: `keras_adaad.export.load_exported` runs it, and
    `keras_adaad.evaluate_robustness` attacks it.

    A student in mixed precision is written in float32, as its weights are.

    Args:
        student: A built `keras.Model`, or one that `keras.Model.quantize` has
            quantised, which LiteRT's converter does not take.
        path: Where to write; what it ends in decides the format.
        calibration_images: Some hundred training images, from which the
            ranges of the activations are taken, of shape `(num_images, ...)`.
            Images and logits stay float32. LiteRT only. Defaults to `None`:
            the file computes as the student does.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        TypeError: If `student` is no `keras.Model`.
        ValueError: If the path names no format, or the student does not fit
            it.
        RuntimeError: If the process of TensorFlow fails.

    Example:

    ```python
    student = distiller.student
    keras_adaad.export.export_student(student, "student.onnx")
    keras_adaad.export.export_student(
        student, "student_int8.tflite", calibration_images=x_train[:200]
    )
    ```
    """
    checks.check_model("student", student, allow_probabilities=True)
    path, format = pathlib.Path(path), format_of(path)
    if calibration_images is not None:
        calibration_images = check_calibration_images(
            calibration_images, format
        )
    if not student.built:
        raise ValueError(
            "Argument `student` must be built: call it on a batch of images "
            f"first. Received: {student.name!r}"
        )
    quantized = _quantized(student)
    if format == "litert" and quantized:
        raise ValueError(
            "Argument `student` must not be quantised by Keras for LiteRT, "
            "whose converter does not take Keras's int8 layers. Export the "
            "float student with `calibration_images`, or as ONNX. "
            f"Received: {student.name!r} with int8 layers"
        )
    if not quantized and not _computes_in_float32(student):
        student = with_dtype(student, "float32")
    if keras.config.backend() == "tensorflow":
        from keras_adaad.export import with_tensorflow

        with_tensorflow.write(student, path, calibration_images)
    else:
        _write_in_a_process(student, path, calibration_images)
    return path


def _quantized(layer):
    policy = keras.dtype_policies.QuantizedDTypePolicy
    return isinstance(layer.dtype_policy, policy) or any(
        _quantized(inner) for inner in getattr(layer, "layers", [])
    )


def _computes_in_float32(layer):
    return layer.compute_dtype == "float32" and all(
        _computes_in_float32(inner) for inner in getattr(layer, "layers", [])
    )


def _write_in_a_process(student, path, calibration_images):
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, "student.keras")]
        student.save(files[0])
        if calibration_images is not None:
            files.append(os.path.join(folder, "images.npy"))
            np.save(files[1], calibration_images)
        command = ["-m", "keras_adaad.export.with_tensorflow", path, *files]
        result = subprocess.run(
            [sys.executable, *map(str, command)],
            env={
                **os.environ,
                "KERAS_BACKEND": "tensorflow",
                # What this process can import, that one can.
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            capture_output=True,
            text=True,
        )
    if result.returncode:
        raise RuntimeError(
            "The process of TensorFlow that exports the student failed. It "
            "needs the packages of keras-adaad's extra `edge`, and knows no "
            "classes but those of Keras and of this library: a student with "
            "layers of your own is exported where Keras runs on TensorFlow. "
            f"Received: {result.stderr[-2000:]}"
        )
