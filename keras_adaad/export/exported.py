"""Runs an exported file on the runtime of its format."""

import pathlib
import warnings

import numpy as np

from keras_adaad import checks
from keras_adaad._typing import ArrayLike
from keras_adaad._typing import Logits
from keras_adaad._typing import PathLike
from keras_adaad.checks.data import to_numpy
from keras_adaad.export.formats import format_of
from keras_adaad.export.samples import as_dtype
from keras_adaad.frozen.classifier import pad

# With fewer integers from black to white, images would be other images.
FEWEST_STEPS = 15


class ExportedModel:
    """An exported file on its runtime: a function from images to logits.

    `keras_adaad.attacks.Square` and `keras_adaad.evaluate_robustness` attack
    it directly. It is returned by `keras_adaad.export.load_exported`.

    Args:
        path: The file, or the folder of a SavedModel.
        function: Function from float32 images to logits that runs the file.
        dtype: Type of the file's input. Defaults to `"float32"`.
        scale: For an input of integers, the difference that a step of 1 makes
            in an image. Defaults to `None`: the file holds no scale, and the
            pixels themselves are integers.
    """

    def __init__(
        self,
        path: PathLike,
        function: Logits,
        dtype: str = "float32",
        scale: float | None = None,
    ) -> None:
        self.path = pathlib.Path(path)
        self.name = self.path.name
        self._function = function
        self._dtype = np.dtype(dtype)
        self._scale = scale
        self._takes_integers = self._dtype.kind in "iu"

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Returns the logits of images.

        Args:
            x: Images, of shape `(batch_size, ...)`.

        Returns:
            A float32 NumPy array of shape `(batch_size, num_classes)`.
        """
        x = np.ascontiguousarray(to_numpy(x), "float32")
        whole = self._takes_integers and self._scale is None
        if whole and 0.0 < np.abs(x).max(initial=0.0) <= 1.0:
            warnings.warn(
                f"{self.name} takes images of {self._dtype}, and these lie in "
                "[-1, 1]: they are rounded to whole numbers. Scale them to the "
                "numbers that the file takes, such as 0 to 255.",
                stacklevel=2,
            )
        return np.asarray(self._function(x), "float32")

    def check_input_range(self, input_range: tuple[float, float]) -> None:
        """Raises if the file would round images in this range too much.

        `keras_adaad.evaluate_robustness` and the attacks call it.

        Args:
            input_range: Pair `(low, high)` of the values a pixel can have.

        Raises:
            ValueError: If the file takes integers, and few of them or none
                lie in the range.
        """
        if not self._takes_integers:
            return
        low, high = input_range
        limits = np.iinfo(self._dtype)
        # With a scale, the file itself says which values it takes.
        inside = self._scale or (limits.min <= low and high <= limits.max)
        if inside and high - low >= FEWEST_STEPS * (self._scale or 1.0):
            return
        scale = f"a scale of {self._scale:g}" if self._scale else "no scale"
        raise ValueError(
            "Argument `input_range` must be the range of the file's pixels. "
            f"{self.name} takes {self._dtype} with {scale}, and would round "
            "these images to a few values. Export it with a float input, or "
            "evaluate it in Python with images and epsilon in 0..255 and "
            "`input_range=(0, 255)`, if these are its pixels. "
            f"Received: input_range={input_range}"
        )


def load_exported(path: PathLike, threads: int | None = None) -> ExportedModel:
    """Loads a LiteRT or ONNX file, or a SavedModel, on its own runtime.

    The file may be any with one input, images, and one output, logits, both
    with the batch as first axis. For LiteRT files that take and return
    integers, the images are quantised and the logits scaled back with the
    file's parameters. A file without parameters takes whole numbers, such as
    0 to 255: evaluate it with such images and their `input_range`.

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
    # Each returns the function, the dtype of the input and its scale.
    load = {"litert": _litert, "onnx": _onnx, "tf_saved_model": _saved_model}
    try:
        loaded = load[format](str(path), threads)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The runtime of {str(path)!r} is not installed ({error}). "
            'Install it with `pip install "keras-adaad[edge]"`.'
        ) from error
    return ExportedModel(path, *loaded)


def _litert(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    source = _only(path, "input", interpreter.get_input_details())
    target = _only(path, "output", interpreter.get_output_details())
    batch_size, *expected = source["shape_signature"].tolist()
    scale, zero_point = source["quantization"]
    shape: list[int] = []

    def call(x):
        # The interpreter would take images of any size, and be wrong.
        if len(expected) + 1 != x.ndim or any(
            size not in (-1, received)
            for size, received in zip(expected, x.shape[1:], strict=True)
        ):
            raise ValueError(
                f"{path!r} takes images of shape {tuple(expected)}. "
                f"Received: x.shape={x.shape}"
            )
        # The memory is laid out for one batch size at a time.
        if x.shape != tuple(shape):
            interpreter.resize_tensor_input(source["index"], x.shape)
            interpreter.allocate_tensors()
            shape[:] = x.shape
        if scale:
            x = x / scale + zero_point
        interpreter.set_tensor(source["index"], as_dtype(x, source["dtype"]))
        interpreter.invoke()
        y = interpreter.get_tensor(target["index"])
        step, zero = target["quantization"]
        if step:
            y = np.float32(step) * (y.astype("float32") - zero)
        return y

    # A file with a fixed size may reshape to it inside.
    function = call if batch_size == -1 else _in_batches(call, batch_size)
    return function, source["dtype"], scale or None


def _onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    source = _only(path, "input", session.get_inputs())
    _only(path, "output", session.get_outputs())
    # E.g. "tensor(uint8)"; two float types have other names in NumPy.
    dtype = source.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)

    def call(x):
        return session.run(None, {source.name: as_dtype(x, dtype)})[0]

    size = source.shape[0]
    function = _in_batches(call, size) if isinstance(size, int) else call
    return function, dtype, None


def _in_batches(call, size):
    """Returns a function of any number of images that calls with `size`."""

    def all_of(x):
        parts = [
            call(pad(x[start : start + size], size))
            for start in range(0, len(x), size)
        ]
        return np.concatenate(parts)[: len(x)]

    return all_of


def _saved_model(path, threads):
    from keras_adaad.export import saved_model

    return *saved_model.load_saved_model(path), None


def _only(path, what, tensors):
    if len(tensors) != 1:
        raise ValueError(
            f"Argument `path` must be a file with one {what}: a classifier "
            f"takes images and returns logits. Received: path={path!r}, with "
            f"{len(tensors)} {what}s"
        )
    return tensors[0]
