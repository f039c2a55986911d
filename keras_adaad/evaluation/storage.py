"""The JSON file of a report."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

import numpy as np

from keras_adaad._typing import PathLike
from keras_adaad.evaluation.attack_result import AttackResult
from keras_adaad.evaluation.fields import plain
from keras_adaad.evaluation.threat_model import ThreatModel
from keras_adaad.writing import write_atomically

FORMAT = "keras_adaad.RobustnessReport.1"
Report = TypeVar("Report")


def pack_report(report: Any) -> dict[str, Any]:
    """Implements `RobustnessReport.to_dict`."""
    values = {
        field.name: getattr(report, field.name)
        for field in dataclasses.fields(report)
        if field.name != "images"
    }
    values.update(dataclasses.asdict(values.pop("threat_model")))
    values["results"] = [_pack_result(result) for result in report.results]
    means = values.pop("image_means")
    # Reports of earlier versions have none.
    if means is not None:
        values["image_means"] = _to_text(means)
    return {
        "format": FORMAT,
        # For human readers only. A loaded report computes them anew.
        "clean_accuracy": report.clean_accuracy,
        "robust_accuracy": report.robust_accuracy,
        "attacks_accuracy": report.attacks_accuracy,
        **plain(pack(values, "clean")),
    }


def unpack_report(
    values: Mapping[str, Any], report_class: type[Report]
) -> Report:
    """Implements `RobustnessReport.from_dict`."""
    try:
        values = dict(values)
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        del values["clean_accuracy"], values["robust_accuracy"]
        values.pop("attacks_accuracy", None)
        values = unpack(values, "clean")
        values["threat_model"] = ThreatModel(
            *(values.pop(name) for name in ("epsilon", "norm", "input_range"))
        )
        if not isinstance(values["results"], list):
            raise ValueError("results must be a list")
        if "image_means" in values:
            values["image_means"] = _from_text(values["image_means"])
        values["results"] = [
            _unpack_result(result) for result in values["results"]
        ]
        return report_class(**values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "Argument `values` must be what `RobustnessReport.to_dict` "
            f'returns, of the format "{FORMAT}". Received something else: '
            f"{type(error).__name__}: {error}"
        ) from error


def pack(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Returns the dictionary with the named booleans as strings of 0 and 1."""
    return {**values, **{name: _to_bits(values[name]) for name in names}}


def unpack(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Undoes `pack`."""
    return {**values, **{name: _from_bits(values[name]) for name in names}}


def write(values: Mapping[str, Any], path: PathLike) -> None:
    """Writes a dictionary to a JSON file atomically."""
    text = json.dumps(values, indent=1)
    write_atomically(path, lambda part: part.write_text(text))


def read(path: PathLike, kind: Any) -> Any:
    """Returns the object of a class with `from_dict` that a JSON file holds."""
    try:
        with open(path, encoding="utf-8") as file:
            return kind.from_dict(json.load(file))
    except ValueError as error:
        raise ValueError(
            f"Argument `path` must be a file that `{kind.__name__}.save` "
            f"wrote. Save it again. Received: path={path!r}"
        ) from error


def _to_bits(flags):
    return None if flags is None else "".join(np.where(flags, "1", "0"))


def _pack_result(result):
    values = pack(vars(result), "robust", "individual")
    sizes = values.pop("perturbations")
    # Results of earlier versions have none.
    if sizes is not None:
        values["perturbations"] = _to_text(sizes)
    return values


def _unpack_result(values):
    values = unpack(values, "robust", "individual")
    if "perturbations" in values:
        values["perturbations"] = _from_text(values["perturbations"])
    return AttackResult(**values)


def _to_text(numbers):
    # On one line, and JSON has no infinity.
    return " ".join(map(repr, numbers.tolist()))


def _from_text(text):
    return np.array(text.split(), float)


def _from_bits(bits):
    if bits is None:
        return None
    if not set(bits) <= {"0", "1"}:
        raise ValueError("flags must be strings of 0 and 1")
    return np.array([bit == "1" for bit in bits], bool)
