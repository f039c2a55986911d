"""Exports a student to a file that runs without Keras."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad._typing import ArrayLike
from keras_adaad._typing import PathLike
from keras_adaad.checks.data import to_numpy
from keras_adaad.export.formats import check_destination
from keras_adaad.export.formats import format_of
from keras_adaad.export.samples import as_input
from keras_adaad.export.samples import input_of
from keras_adaad.export.samples import noise
from keras_adaad.export.samples import of_other_size
from keras_adaad.frozen.fingerprint import graph_operations
from keras_adaad.frozen.fingerprint import layers_within
from keras_adaad.models.copying import copy_model
from keras_adaad.training.adversarial_training import AdversarialTraining
from keras_adaad.writing import saving_in_one_process
from keras_adaad.writing import write_atomically

# Largest difference between the logits of file and student, relative to the
# largest logit: rounding in float32; a few int8 steps if Keras has quantised
# the student; in full int8, less than that of another network.
_FLOAT32, _QUANTIZED, _INT8 = 1e-4, 0.02, 0.5


def export_student(
    student: keras.Model,
    path: PathLike,
    calibration_images: ArrayLike | None = None,
    images: ArrayLike | None = None,
    input_range: tuple[float, float] = (0.0, 1.0),
) -> pathlib.Path:
    """Exports a student to a file, as LiteRT, ONNX or SavedModel.

    | `path` | format | runtime |
    |---|---|---|
    | `"student.tflite"` | LiteRT (TensorFlow Lite) | `ai-edge-litert` |
    | `"student.onnx"` | ONNX | `onnxruntime` |
    | `"student"`, a folder | SavedModel | `tensorflow` |

    The file computes the student in inference mode, for any batch size. Before
    it is moved to `path`, it is opened with its runtime, and its logits on a
    few images are compared with the student's. If it cannot be opened, or its
    logits differ, an error is raised, and `path` stays as it was.

    Keras writes all formats with TensorFlow. On JAX and PyTorch the student is
    passed as a `.keras` file to a process that runs TensorFlow, so the exported
    files do not depend on the backend.

    With `calibration_images` the file computes in int8, activations included,
    as device accelerators do. Measure the robustness on the file itself:
    `keras_adaad.export.load_exported` runs it, and
    `keras_adaad.evaluate_robustness` attacks it.

    A student in mixed precision is written in float32, as its weights are.
    LoRA is merged into the weights. A student that `keras.Model.quantize` has
    quantised can be exported as ONNX or SavedModel if their operations can
    express it, as for int8. LiteRT's converter does not accept it.

    Args:
        student: A built `keras.Model` from images to logits.
        path: Where to write. The suffix determines the format. An existing file
            is replaced, and so is a folder that holds a SavedModel.
        calibration_images: A few hundred training images, of shape
            `(num_images, ...)`, that determine the ranges of the activations.
            Images and logits stay float32. LiteRT only. Defaults to `None`:
            no quantisation.
        images: A few images, of shape `(num_images, ...)`, on which the file
            is compared with the student. The first 32 are used. Defaults to
            `None`: calibration images, or else uniform noise in `input_range`.
        input_range: The pair `(low, high)` that pixels lie in.

    Returns:
        The path, a `pathlib.Path`.

    Raises:
        TypeError: If `student` is no `keras.Model`.
        ValueError: If the path names no format or cannot be replaced, the
            student does not fit the format, or images do not fit the student.
        ImportError: If a package of the extra `edge` is not installed.
        RuntimeError: If the student cannot be written in the format, or the
            file cannot be opened, or its logits are not the student's.

    Example:

    ```python
    student = distiller.student
    keras_adaad.export.export_student(
        student, "student.onnx", images=x_test[:32]
    )
    keras_adaad.export.export_student(
        student, "student_int8.tflite", calibration_images=x_train[:200]
    )
    ```
    """
    if isinstance(student, AdversarialTraining):
        raise ValueError(
            "Argument `student` must be the network alone: pass "
            f"`distiller.student`. Received: a {type(student).__name__}"
        )
    checks.check_model("student", student, allow_probabilities=True)
    path, format = pathlib.Path(path), format_of(path)
    check_destination(path)
    if not student.built:
        raise ValueError(
            "Argument `student` must be built: call it on a batch of images "
            f"first. Received: {student.name!r}"
        )
    takes = (checks.check_input_range(input_range), *input_of(student))
    if calibration_images is not None:
        _check_calibrates(path, format)
        calibration_images = as_input(
            "calibration_images", calibration_images, *takes
        )
    if images is not None:
        images = as_input("images", images, *takes)
    elif calibration_images is not None:
        images = calibration_images
    else:
        images = noise(*takes)
    tolerance = _FLOAT32 if calibration_images is None else _INT8
    if _is_quantized(student):
        _check_takes_quantized(student, format)
        tolerance = _QUANTIZED
    elif not _computes_in_float32(student):
        student = _in_float32(student)
    # In full float32 precision like the file, on a GPU too.
    with saving_in_one_process(), backend.full_precision():
        _export(student, path, images[:32], calibration_images, tolerance)
    return path


def _export(student, path, images, calibration_images, tolerance):
    """Writes the file, and compares it before it appears at the path."""
    expected = _logits(student, images)
    write = _write
    if keras.config.backend() != "tensorflow":
        write = _write_in_a_process

    def write_and_compare(part):
        found = write(student, part, images, calibration_images)
        check_same(expected, found, tolerance, path)

    write_atomically(path, write_and_compare)


def _logits(student, images):
    logits = to_numpy(student(images, training=False)).astype("float32")
    if logits.ndim != 2 or not np.isfinite(logits).all():
        raise ValueError(
            "Argument `student` must return finite logits of shape "
            "`(batch_size, num_classes)`. Received: on images of shape "
            f"{images.shape}, an array of shape {logits.shape} with "
            f"{np.count_nonzero(~np.isfinite(logits))} values that are "
            "not finite"
        )
    return logits


def check_same(expected, found, tolerance, path):
    """Raises unless a file returns a student's logits.

    `found` holds the file's logits of the same images, and of a batch of
    another size; see `of_other_size`. `tolerance` is relative to the largest
    logit.
    """
    scale = np.abs(expected).max()
    batch, other = found
    for logits, right in ((batch, expected), (other, of_other_size(expected))):
        if logits.shape == right.shape:
            apart = np.abs(logits - right).max()
            if apart <= tolerance * scale:  # False for NaN.
                continue
            differ = f"logits that are {apart:.2g} apart within {scale:.2g}"
        else:
            differ = f"shape {logits.shape} in place of {right.shape}"
        raise RuntimeError(
            f"The file {path.name!r} was not kept: on a batch of {len(right)} "
            "it does not compute what the student computes. The student may "
            "be random or depend on the batch in inference mode, or use an "
            "operation that is converted wrongly; with `calibration_images`, "
            "their range may be too small for `images`. Received: "
            f"{differ}, where {tolerance * scale:.2g} is allowed"
        )


def _is_quantized(student):
    policy = keras.dtype_policies.QuantizedDTypePolicy
    return any(
        isinstance(layer.dtype_policy, policy)
        for layer in layers_within(student)
    )


def _computes_in_float32(student):
    # The dtype policies of a graph and of its inputs have no effect.
    return all(
        layer.compute_dtype == "float32"
        or isinstance(layer, keras.layers.InputLayer)
        or graph_operations(layer)
        for layer in layers_within(student)
    )


def _in_float32(student):
    copy = copy_model(student, "float32")
    if not _computes_in_float32(copy):
        raise ValueError(
            "Argument `student` must be a Functional or Sequential model, or "
            "compute in float32: the layers of a subclassed model cannot be "
            f"given another dtype. Received: {student.name!r} "
            f"({type(student).__name__}) with {student.dtype_policy.name!r}"
        )
    return copy


def _check_calibrates(path, format):
    if format != "litert":
        raise ValueError(
            "Argument `calibration_images` must be left out of a format other "
            "than LiteRT (`.tflite`): its converter alone computes in int8. "
            "`keras.Model.quantize` before the export makes the weights of "
            f"`Dense` layers int8 in every other. Received: path={str(path)!r}"
        )


def _check_takes_quantized(student, format):
    if format == "litert":
        raise ValueError(
            "Argument `student` must not be quantised by Keras for LiteRT, "
            "whose converter does not take Keras's quantised layers. Export "
            "the float student with `calibration_images`, or this one as ONNX "
            f"or SavedModel. Received: {student.name!r} with quantised layers"
        )


def _write(student, path, images, calibration_images):
    """Writes a file, opens it, and returns its logits; see `check_same`."""
    try:
        from keras_adaad.export import with_tensorflow

        return with_tensorflow.write_and_run(
            student, path, images, calibration_images
        )
    except ModuleNotFoundError as error:
        raise ImportError(
            f"A package that exports is not installed ({error}). Install it "
            'with `pip install "keras-adaad[edge]"`.'
        ) from error
    except Exception as error:
        raise RuntimeError(
            f"The student could not be written as {path.name!r}, or its "
            "runtime does not run the file on batches of two sizes: the "
            "format may lack an operation that the student uses, or the "
            "student's batch size is fixed. "
            f"Received: {type(error).__name__}: {str(error)[-2000:]}"
        ) from error


def _write_in_a_process(student, path, images, calibration_images):
    """Does the same as `_write`, in a process with Keras on TensorFlow."""
    folder = path.parent
    arrays = {"images": images}
    if calibration_images is not None:
        arrays["calibration_images"] = calibration_images
    np.savez(folder / "images.npz", **arrays)
    try:
        student.save(folder / "student.keras")
        subprocess.run(
            [sys.executable, "-m", "keras_adaad.export.with_tensorflow", path],
            env={
                **os.environ,
                "KERAS_BACKEND": "tensorflow",
                # This process may have taken the memory of the GPUs.
                "CUDA_VISIBLE_DEVICES": "-1",
                # Both processes can import the same modules.
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            capture_output=True,
            text=True,
            check=True,
        )
    except Exception as error:
        reason = getattr(error, "stderr", None) or str(error)
        raise RuntimeError(
            "The process of TensorFlow that exports the student failed. It "
            "needs the packages of keras-adaad's extra `edge`, and knows no "
            "classes but those of Keras and of this library: a student with "
            "layers of your own is exported where Keras runs on TensorFlow. "
            "Or the format lacks an operation that the student uses, or the "
            f"student's batch size is fixed. Received: {reason[-2000:]}"
        ) from error
    with np.load(folder / "logits.npz") as logits:
        return logits["batch"], logits["other"]
