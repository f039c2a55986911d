"""The tables of `benchmarks.teachers`, in Markdown."""

import numpy as np

from benchmarks.study.cifar10 import EPSILON

# What may predict the accuracy of the students: its name in a table, its factor
# there, and its format.
PREDICTORS = {
    "transferable": ("transferable, %", 100, ".1f"),
    "entropy": ("entropy, nats", 1, ".2f"),
    "search_radius": ("radius, epsilons", 1 / EPSILON, ".2f"),
    "clean_accuracy": ("clean, %", 100, ".1f"),
    "robust_accuracy": ("PGD-20, %", 100, ".1f"),
    "autoattack": ("AutoAttack, %", 100, ".1f"),
}


def table(result):
    """Returns the table of a result, in Markdown.

    The teachers are in the order of the ranking. All columns but the last are
    the teacher's own.
    """
    header = ["teacher", *(title for title, _, _ in PREDICTORS.values())]
    header.append("its students, AutoAttack, %")
    lines = [header, ["---"] * len(header)]
    for row in result["rows"]:
        values = [
            format(factor * row[name], form)
            for name, (_, factor, form) in PREDICTORS.items()
        ]
        students = 100 * np.array(row["students"])
        spread = f" ± {students.std(ddof=1):.1f}" if len(students) > 1 else ""
        lines.append([row["name"], *values, f"{students.mean():.1f}{spread}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def correlation_table(result):
    """Returns the table of the rank correlations, in Markdown."""
    lines = [
        ("predictor", "rank correlation", "95 % interval", "p"),
        ("---",) * 4,
    ]
    for name, found in result["correlations"].items():
        lines.append((PREDICTORS[name][0].split(",")[0], *cells(found)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cells(found):
    """Returns a correlation, its interval and its p-value as texts."""
    if found["correlation"] is None:
        return "-", "-", "-"
    interval = "-"
    if found["interval"] is not None:
        interval = "{:+.2f} to {:+.2f}".format(*found["interval"])
    return (
        f"{found['correlation']:+.2f}",
        interval,
        f"{found['p_value']:.2g}",
    )
