"""An exported file on the runtime that a device has for it."""

import pathlib

import numpy as np

from keras_adaad import checks
from keras_adaad.checks.data import to_numpy
from keras_adaad.export.formats import format_of


class ExportedModel:
    """A file on its runtime: a function from images to logits.

    `keras_adaad.attacks.Square` and `keras_adaad.evaluate_robustness` attack
    it as it is. Made by `keras_adaad.export.load_exported`.

    Args:
        path: The file, or the folder of a SavedModel.
        function: What runs it: a function from float32 images to logits.
    """

    def __init__(self, path, function):
        self.path = pathlib.Path(path)
        self.name = self.path.name
        self._function = function

    def __call__(self, x):
        """Returns the logits of images.

        Args:
            x: Images, of shape `(batch_size, ...)`.

        Returns:
            A float32 NumPy array of shape `(batch_size, num_classes)`.
        """
        x = np.ascontiguousarray(to_numpy(x), "float32")
        return self._function(x)


def load_exported(path, threads=None):
    """Loads a LiteRT or ONNX file, or a SavedModel, on its own runtime.

    Any file of the format will do that takes images and returns logits, one
    input and one output, with the batch as first axis. LiteRT files that take
    and return integers get their images rounded as the file says, and their
    logits scaled back.

    Args:
        path: The file, or the folder of a SavedModel.
        threads: Number of threads of LiteRT or ONNX Runtime.
            Defaults to `None`: the runtime decides.

    Returns:
        An `ExportedModel`: call it with images to get logits.

    Raises:
        ValueError: If the path names no format or does not exist.
        ImportError: If the runtime is not installed.

    Example:

    ```python
    deployed = keras_adaad.export.load_exported("student.tflite")
    accuracy = (deployed(x_test).argmax(-1) == y_test).mean()
    report = keras_adaad.evaluate_robustness(
        deployed, x_test, y_test, attacks=["square"], epsilon=8 / 255
    )
    ```
    """
    format = format_of(path)
    if not pathlib.Path(path).exists():
        raise ValueError(
            "Argument `path` must be an exported file or folder. "
            f"Received: path={str(path)!r}, which does not exist"
        )
    if threads is not None:
        threads = checks.check_integer("threads", threads)
    load = {"litert": _litert, "onnx": _onnx, "tf_saved_model": _saved_model}
    try:
        function = load[format](str(path), threads)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The runtime of {str(path)!r} is not installed ({error}). "
            'Install it with `pip install "keras-adaad[edge]"`.'
        ) from error
    return ExportedModel(path, function)


def _litert(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()
    shape = []

    def call(x):
        # The memory is laid out for one batch size at a time.
        if x.shape != tuple(shape):
            interpreter.resize_tensor_input(source["index"], x.shape)
            interpreter.allocate_tensors()
            shape[:] = x.shape
        interpreter.set_tensor(source["index"], _quantized(x, source))
        interpreter.invoke()
        return _dequantized(interpreter.get_tensor(target["index"]), target)

    return call


def _quantized(x, tensor):
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind == "f":
        return x.astype(dtype)
    scale, zero_point = tensor["quantization"]
    limits = np.iinfo(dtype)
    rounded = np.round(x / scale + zero_point)
    return rounded.clip(limits.min, limits.max).astype(dtype)


def _dequantized(x, tensor):
    if x.dtype.kind == "f":
        return x.astype("float32")
    scale, zero_point = tensor["quantization"]
    return np.float32(scale) * (x.astype("float32") - zero_point)


def _onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    (source,) = session.get_inputs()
    return lambda x: session.run(None, {source.name: x})[0]


def _saved_model(path, threads):
    from keras_adaad.export import with_tensorflow

    return with_tensorflow.load_saved_model(path)
