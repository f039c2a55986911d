"""The formats, each known by the name of its file."""

import pathlib

from keras_adaad.checks.data import to_numpy

# Suffix of the file: what `keras.Model.export` calls the format.
FORMATS = {".tflite": "litert", ".onnx": "onnx", "": "tf_saved_model"}


def format_of(path):
    """Returns the format of a file, or of a folder, by its name."""
    suffix = pathlib.Path(path).suffix
    if suffix not in FORMATS:
        raise ValueError(
            "Argument `path` must end in `.tflite` (LiteRT) or `.onnx` "
            "(ONNX), or be a folder, without a dot in its name (SavedModel). "
            f"Received: path={str(path)!r}"
        )
    return FORMATS[suffix]


def check_calibration_images(images, format):
    """Returns the images that set the ranges of int8, or raises."""
    if format != "litert":
        raise ValueError(
            "Argument `calibration_images` must be left out of a format other "
            "than LiteRT (`.tflite`): its converter alone computes in int8. "
            "`keras.Model.quantize` before the export makes the weights of "
            f"`Dense` layers int8 in every other. Received: {format!r}"
        )
    images = to_numpy(images)
    if images.ndim < 2 or len(images) == 0 or images.dtype.kind not in "fiu":
        raise ValueError(
            "Argument `calibration_images` must be a non-empty batch of "
            "images as the student takes them. Received: "
            f"an array of shape {images.shape} and dtype {images.dtype}"
        )
    return images.astype("float32")
