"""Images to calibrate an exported file on, and to compare it on."""

import math
from typing import Any

import keras
import numpy as np

from keras_adaad import checks
from keras_adaad.checks.data import check_images
from keras_adaad.models.copying import input_shape


def input_of(student):
    """Returns the shape, or `None`, and the dtype of a student's input."""
    shape = input_shape(student)
    if shape is not None:
        checks.check_one_input("student", shape)
        shape = tuple(shape)
    if getattr(student, "inputs", None):
        return shape, student.inputs[0].dtype
    return shape, student.input_dtype


def as_input(
    name: str,
    images: Any,
    input_range: tuple[float, float],
    shape: Any,
    dtype: Any,
) -> np.ndarray:
    """Returns images as an array that a student takes, or raises.

    `shape` and `dtype` are those of `input_of`.
    """
    images = check_images(name, images, input_range)
    if shape is not None and not fits(images.shape[1:], shape[1:]):
        raise ValueError(
            f"Argument `{name}` must hold images as the student takes them, "
            f"of shape {shape[1:]}. Received: {name}.shape={images.shape}"
        )
    return images.astype(dtype)


def noise(
    input_range: tuple[float, float], shape: Any, dtype: Any
) -> np.ndarray:
    """Returns uniform noise as images that a student takes."""
    if shape is None:
        raise ValueError(
            "Argument `images` must be given for this student, which does not "
            "tell the shape of its input. Received: images=None"
        )
    size = [shape[0] or 8, *(length or 32 for length in shape[1:])]
    generator = np.random.default_rng(0)
    if keras.backend.is_int_dtype(dtype):
        low, high = math.ceil(input_range[0]), math.floor(input_range[1])
        return generator.integers(low, high, size, dtype, endpoint=True)
    return generator.uniform(*input_range, size).astype(dtype)


def of_other_size(batch):
    """Returns a batch of another size, made of a batch's first element."""
    return batch[:1] if len(batch) > 1 else np.repeat(batch, 2, axis=0)


def fits(shape, expected):
    """Whether a shape is an expected one, in which `None` is any length."""
    return len(shape) == len(expected) and all(
        length in (None, received)
        for length, received in zip(expected, shape, strict=True)
    )


def as_dtype(x, dtype):
    """Returns images in a file's dtype, rounded and clipped for integers."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        x = np.round(x).clip(limits.min, limits.max)
    return x.astype(dtype, copy=False)
