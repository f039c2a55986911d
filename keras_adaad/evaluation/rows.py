"""The rows of a report: its attacks, and the protocols that group them."""

import dataclasses
import re
from typing import Any

import numpy as np

from keras_adaad.attacks import presets


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """An attack, or all attacks of a protocol.

    Args:
        title: What the row is called.
        part: Whether it is an attack of the protocol above.
        attacked: Number of images that were attacked.
        before: Which images are correct before it.
        robust: Which images are correct after it and all above it.
        individual: Which images are correct under it alone, or `None` if that
            was not measured.
        seconds: Duration.
    """

    title: str
    part: bool
    attacked: int
    before: np.ndarray
    robust: np.ndarray
    individual: np.ndarray | None
    seconds: float


def rows_of(report):
    """Returns the rows of a report, a protocol before its attacks."""
    found, before = [], report.clean
    for group in groups(report):
        found.append(_row(titled_group(group), group, before))
        if group[0].group:
            for result in group:
                mark = "" if result.complete else " (incomplete)"
                title = f"{result.name}{mark}"
                found.append(_row(title, [result], before, part=True))
                before = result.robust
        before = group[-1].robust
    return found


def titled(report):
    """Returns the title of each row that is no part of another, and its images.

    The images are flags: correct after the row and all above it.
    """
    return [(row.title, row.robust) for row in rows_of(report) if not row.part]


def groups(report):
    """Returns lists of results, each of a protocol or of a single attack."""
    found: dict[Any, list[Any]] = {}
    for i, result in enumerate(report.results):
        found.setdefault(result.group or i, []).append(result)
    return list(found.values())


def name(group):
    """Returns the name of a group, or of its attacks if it is incomplete."""
    if all(result.complete for result in group):
        return group[0].group or group[0].name
    # A part of a protocol must not pass for the protocol.
    return "incomplete: " + ", ".join(result.name for result in group)


def titled_group(group):
    """Returns the name, with the parameters that it does not stand for.

    `PGD(epsilon)` has 10 steps, and the preset of the same name 20.
    """
    (first, *others) = group
    # The second attack with a name is called "pgd (2)".
    preset = presets.PRESETS.get(re.sub(r" \(\d+\)$", "", first.name))
    task = {
        key: first.parameters[key]
        for key in ("epsilon", "norm", "input_range")
        if key in first.parameters
    }
    named = not (others or first.group) and first.complete and len(task) == 3
    if preset is None or not named:
        return name(group)
    usual = preset(**task).get_config()
    changed = [
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in first.parameters.items()
        if key in usual and key != "seed" and _differ(value, usual[key])
    ]
    return f"{first.name} ({', '.join(changed)})" if changed else first.name


def _row(title, results, before, part=False):
    individual = None
    if all(result.individual is not None for result in results):
        individual = np.logical_and.reduce([r.individual for r in results])
    return Row(
        title=title,
        part=part,
        attacked=max(result.attacked for result in results),
        before=before,
        robust=results[-1].robust,
        individual=individual,
        seconds=sum(result.seconds for result in results),
    )


def _differ(value, usual):
    if isinstance(value, float) and isinstance(usual, float):
        return not np.isclose(value, usual, atol=0.0)
    return value != usual
