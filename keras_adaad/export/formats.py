"""The export formats, identified by the suffix of the file."""

import pathlib

# Suffix of the file, and name of the format in `keras.Model.export`.
FORMATS = {".tflite": "litert", ".onnx": "onnx", "": "tf_saved_model"}

# Contents of the folder of a SavedModel.
_SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets"}


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


def check_destination(path):
    """Raises if an export can't be written, or would replace other files."""
    if not path.parent.is_dir():
        raise ValueError(
            "Argument `path` must lie in a folder that exists. "
            f"Received: path={str(path)!r}, and there is no "
            f"{str(path.parent)!r}"
        )
    if format_of(path) != "tf_saved_model":
        if path.is_dir():
            raise ValueError(
                "Argument `path` must not be a folder for LiteRT and ONNX, "
                "which are files. "
                f"Received: path={str(path)!r}, which is a folder"
            )
    elif path.is_dir():
        names = {entry.name for entry in path.iterdir()}
        if names and not "saved_model.pb" in names <= _SAVED_MODEL:
            others = ", ".join(sorted(names - _SAVED_MODEL)[:5])
            raise ValueError(
                "Argument `path` must be a new folder, an empty one, or that "
                "of a SavedModel alone, which is replaced. "
                f"Received: path={str(path)!r}, which holds {others}"
            )
    elif path.exists():
        raise ValueError(
            "Argument `path` must not be a file for a SavedModel, which is a "
            f"folder. Received: path={str(path)!r}, which is a file"
        )
