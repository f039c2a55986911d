"""Checks and conversion of the fields of a report."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_adaad._typing import ArrayLike
from keras_adaad.evaluation.threat_model import ThreatModel


def make_plain(record: Any, except_for: Sequence[str]) -> None:
    """Replaces NumPy numbers and tuples by their JSON equivalents."""
    for field in dataclasses.fields(record):
        if field.name not in except_for:
            value = getattr(record, field.name)
            setattr(record, field.name, plain(value))


def check(record: Any, **kinds: str) -> None:
    """Raises unless the named fields are of these kinds, keys of `KINDS`."""
    for name, kind in kinds.items():
        value = getattr(record, name)
        if not KINDS[kind](value):
            raise ValueError(
                f"Argument `{name}` must be {kind}. "
                f"Received: {name}={value!r} (of type {type(value).__name__})"
            )


def integers(name: str, values: ArrayLike) -> np.ndarray:
    """Returns an int64 array, or raises unless the values are integers."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"Argument `{name}` must hold integers. "
            f"Received: {name} of dtype {array.dtype}"
        )
    return array.astype("int64")


def numbers(name: str, values: ArrayLike) -> np.ndarray:
    """Returns a float64 array, or raises unless the values are finite."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(
            f"Argument `{name}` must hold finite numbers. "
            f"Received: {name}={values!r}"
        )
    return array.astype("float64")


def sizes(name: str, values: ArrayLike) -> np.ndarray:
    """Returns a float64 array, or raises unless no value is below 0."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" or not (array >= 0.0).all():
        raise ValueError(
            f"Argument `{name}` must hold sizes, of at least 0, or infinity. "
            f"Received: {name}={values!r}"
        )
    return array.astype("float64")


def check_shapes(report: Any) -> None:
    """Raises unless a report has one value per image, of at least one."""
    clean = report.clean
    arrays = {name: getattr(report, name) for name in ("labels", "indices")}
    if report.image_means is not None:
        arrays["image_means"] = report.image_means
    for i, result in enumerate(report.results):
        for name in ("robust", "individual", "perturbations"):
            if getattr(result, name) is not None:
                arrays[f"results[{i}].{name}"] = getattr(result, name)
    if clean.ndim != 1 or len(clean) == 0:
        raise ValueError(
            "Argument `clean` must have one value per image, of at least "
            f"one image. Received: shape {clean.shape}"
        )
    for name, array in arrays.items():
        if array.shape != clean.shape:
            raise ValueError(
                f"Argument `{name}` must have one value per image, shape "
                f"{clean.shape}. Received: shape {array.shape}"
            )


def check_classes(report: Any) -> None:
    """Raises unless the labels of a report and its names are of its classes."""
    labels, num_classes = report.labels, report.num_classes
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            "Argument `labels` must be class indices in "
            f"[0, {num_classes - 1}]. Received: labels in "
            f"[{labels.min()}, {labels.max()}]"
        )
    names = report.class_names
    if names is not None and len(names) != num_classes:
        raise ValueError(
            "Argument `class_names` must have a name for each of the "
            f"{num_classes} classes. Received: {len(names)} names"
        )


def _is_number(value):
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, float) and math.isfinite(value))


def _is_integer(value):
    return _is_number(value) and isinstance(value, int)


def _is_text(value):
    return isinstance(value, str)


def _are(kind, values):
    return isinstance(values, list) and all(map(kind, values))


def _is_curve(value):
    if value is None:
        return True
    keys = {"attack", "epsilons", "accuracy", "num_images"}
    return (
        isinstance(value, dict)
        and set(value) == keys
        and _are(_is_number, value["epsilons"])
        and _are(_is_number, value["accuracy"])
        and 0 < len(value["epsilons"]) == len(value["accuracy"])
    )


KINDS = {
    "a string": _is_text,
    "a string or `None`": lambda value: value is None or _is_text(value),
    "a finite number": _is_number,
    "an integer": _is_integer,
    "a bool": lambda value: isinstance(value, bool),
    "a `ThreatModel`": lambda value: isinstance(value, ThreatModel),
    "a dictionary": lambda value: isinstance(value, dict),
    "a dictionary of strings": lambda value: (
        isinstance(value, dict) and _are(_is_text, list(value.values()))
    ),
    "a list of integers": lambda value: _are(_is_integer, value),
    "a list of strings or `None`": lambda value: (
        value is None or _are(_is_text, value)
    ),
    "a curve, a dictionary of lists of one length, or `None`": _is_curve,
}


def plain(value: Any) -> Any:
    """Returns a copy of the value after a round trip through JSON."""
    return json.loads(json.dumps(value, default=_plain_leaf))


def _plain_leaf(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    # The default `repr` holds an address, which no other process has.
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return getattr(value, "__qualname__", text)
