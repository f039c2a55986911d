"""The published models in the zoo, as listed in `registry.json`."""

import copy
import difflib
import functools
import json
import math
import pathlib
from typing import Any

from keras_adaad import checks

DATASETS = ("cifar10", "cifar100")
THREAT_MODELS = ("Linf", "L2", "corruptions")


def entry(
    name: str, dataset: str = "cifar10", threat_model: str = "Linf"
) -> dict[str, Any]:
    """Returns the registry entry of a published model.

    Args:
        name: Id of the model in RobustBench, e.g. `"Chen2021LTD_WRN34_20"`.
        dataset: "cifar10" or "cifar100". Defaults to "cifar10".
        threat_model: "Linf", "L2" or "corruptions". Defaults to "Linf".

    Returns:
        A dictionary with the keys

        - `id`, `dataset`, `threat_model`, `epsilon` (in units of images in
          [0, 1]; `None` for corruptions),
        - `architecture` and `arguments`: a builder of `keras_adaad.models` and
          its keyword arguments,
        - `clean_accuracy`, `robust_accuracy` (under AutoAttack, or on the
          corrupted images), in percent, as published by RobustBench,
        - `paper`, `url`, `venue`, `license` of the weights,
        - `gdrive_id`: the file at Google Drive; `download_url`: the same
          weights at their authors' own address, or `None`,
        - `sha256` and `size` (in bytes) of the file at Google Drive, or
          `None`,
        - `checkpoint_key`: the network that was evaluated if the file holds
          several, or `None`,
        - `normalization_from_file`: `True` if mean and standard deviation are
          in the file and not in `arguments`; absent otherwise.

    Raises:
        ValueError: If there is no such model.

    Example:

    ```python
    keras_adaad.zoo.entry("Chen2021LTD_WRN34_20")["robust_accuracy"]  # 57.71
    ```
    """
    entries = list_models(dataset, threat_model)
    for found in entries:
        if found["id"] == name:
            return found
    others = [
        f'dataset="{other["dataset"]}", threat_model="{other["threat_model"]}"'
        for other in _entries()
        if other["id"] == name
    ]
    ids = {found["id"].lower(): found["id"] for found in entries}
    close = difflib.get_close_matches(str(name).lower(), ids)
    if others:
        advice = f"It exists with {' and with '.join(others)}."
    elif close:
        advice = f"Did you mean {' or '.join(repr(ids[key]) for key in close)}?"
    else:
        advice = "`list_models` returns them."
    raise ValueError(
        "Argument `name` must be the id of a model in the registry for "
        f"dataset={dataset!r} and threat_model={threat_model!r}. {advice} "
        f"Received: name={name!r}"
    )


def list_models(
    dataset: str | None = None, threat_model: str | None = None
) -> list[dict[str, Any]]:
    """Returns the published models that the zoo can load.

    Args:
        dataset: "cifar10" or "cifar100", or `None` for both.
        threat_model: "Linf", "L2" or "corruptions", or `None` for all.

    Returns:
        A list of dictionaries as returned by `entry`. For each data set and
        threat model, the most robust comes first. It prints as a table.

    Raises:
        ValueError: If the data set or the threat model is unknown.

    Example:

    ```python
    models = keras_adaad.zoo.list_models("cifar100", "Linf")
    print(models)
    small = [m["id"] for m in models if m["architecture"] == "ResNet18"]
    ```
    """
    wanted = {}
    if dataset is not None:
        wanted["dataset"] = _spelled("dataset", dataset, DATASETS)
    if threat_model is not None:
        wanted["threat_model"] = _spelled(
            "threat_model", threat_model, THREAT_MODELS
        )
    # Copies, so that changes by the caller do not affect the registry.
    return ModelList(
        copy.deepcopy(found)
        for found in _entries()
        if wanted.items() <= found.items()
    )


class ModelList(list):  # type: ignore[type-arg]
    """A list of registry entries that prints as a table."""

    def __repr__(self):
        tables = []
        for dataset in DATASETS:
            for threat_model in THREAT_MODELS:
                rows = [
                    _row(found)
                    for found in self
                    if found["dataset"] == dataset
                    and found["threat_model"] == threat_model
                ]
                if rows:
                    tables.append(_table(f"{dataset}, {threat_model}", rows))
        return "\n\n".join(tables) or "no models"


@functools.cache
def _entries():
    path = pathlib.Path(__file__).with_name("registry.json")
    return json.loads(path.read_text(encoding="utf-8"))


def _spelled(name, value, choices):
    """Returns the choice that `value` matches, or raises.

    Case and punctuation are ignored.
    """
    for choice in choices:
        if _letters(value) == _letters(choice):
            return choice
    return checks.check_choice(name, value, choices)


def _letters(text):
    return "".join(c for c in str(text).lower() if c.isalnum())


def _row(found):
    size = [found["arguments"].get(name) for name in ("depth", "width")]
    return (
        found["id"],
        "-".join(str(s) for s in (found["architecture"], *size) if s),
        _epsilon(found["epsilon"]),
        f"{found['clean_accuracy']:.2f}",
        f"{found['robust_accuracy']:.2f}",
        "direct" if found["download_url"] else "Drive",
        found["license"],
    )


def _epsilon(epsilon):
    if epsilon is None:
        return "-"
    steps = round(255 * epsilon)
    if math.isclose(steps, 255 * epsilon, rel_tol=1e-6):
        return f"{steps}/255"
    return f"{epsilon:g}"


def _table(title, rows):
    header = (
        title,
        "architecture",
        "epsilon",
        "clean %",
        "robust %",
        "source",
        "license",
    )
    rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            # Accuracies are aligned at their decimal point.
            cell.rjust(width) if column in (3, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(
                zip(row, widths, strict=True)
            )
        ).rstrip()
        for row in rows
    )
