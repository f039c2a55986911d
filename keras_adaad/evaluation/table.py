"""A table of the reports of several models on the same images."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_adaad.evaluation import text
from keras_adaad.evaluation.rows import titled
from keras_adaad.evaluation.same_task import attacks_of
from keras_adaad.evaluation.same_task import check_same_task
from keras_adaad.evaluation.same_task import task_of


def robustness_table(reports: Mapping[str, Any]) -> str:
    """Formats reports as one table, e.g. of a teacher and its student.

    Args:
        reports: Dictionary from the name of a model to its
            `RobustnessReport`. With two reports, the last row is the gap: the
            first minus the second, in percentage points.

    Returns:
        A string.

    Raises:
        ValueError: If the reports differ in the images, the threat model or
            the attacks.

    Example:

    ```python
    print(robustness_table({"teacher": teacher, "student": student}))
    ```
    """
    if not isinstance(reports, Mapping):
        raise TypeError(
            "Argument `reports` must be a dict from names to reports, e.g. "
            '`{"teacher": teacher, "student": student}`. '
            f"Received: reports of type {type(reports).__name__}"
        )
    if not reports:
        raise ValueError(
            "Argument `reports` must have at least one report. "
            f"Received: reports={reports!r}"
        )
    first = next(iter(reports.values()))
    attacks = [name for name, _ in first.stages()]
    rows, table = [], []
    for name, report in reports.items():
        check_same_task(f"reports[{name!r}]", first, report)
        if attacks_of(report) != attacks_of(first):
            raise ValueError(
                f"Argument `reports[{name!r}]` must have the same attacks as "
                "the first report, with the same parameters. Evaluate both "
                "with the same attacks, to their end. Received: "
                f"{_only_in(report, first)}, where the first report has "
                f"{_only_in(first, report)}"
            )
        robust = [robust for _, robust in report.stages()]
        flags = [report.clean, *robust, report.robust]
        table.append(100 * np.mean(flags, axis=1))
        rows.append((name, [f"{value:.2f}" for value in table[-1]]))
    if len(table) == 2:
        rows.append(("gap", [f"{gap:+.2f}" for gap in table[0] - table[1]]))
    lines = _columns(
        ["clean", *attacks, text.worst_case(*reports.values())], rows
    )
    titles = [title for title, _ in titled(first)]
    if titles != attacks:
        lines += ["", *text.wrap(f"Attacks: {'; '.join(titles)}.")]
    doubts = text.doubts_of_all(reports)
    if doubts:
        lines += ["", *doubts]
    return "\n".join([f"accuracy (%), {task_of(first)}", "", *lines])


def _only_in(report, other):
    """Returns the attacks in words that only the first of two reports has."""
    theirs = attacks_of(other)
    found = [
        f"{name} with {parameters}{'' if complete else ' (incomplete)'}"
        for name, group, parameters, complete in attacks_of(report)
        if (name, group, parameters, complete) not in theirs
    ]
    return "; ".join(found) or "none"


def _columns(headings, rows):
    """Returns the lines of a table, with long headings wrapped."""
    headings = [textwrap.wrap(heading, 10) for heading in headings]
    height = max(map(len, headings))
    headings = [[""] * (height - len(lines)) + lines for lines in headings]
    rows = [("", line) for line in zip(*headings, strict=True)] + rows
    width = max(len(name) for name, _ in rows)
    return [
        f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells)
        for name, cells in rows
    ]
