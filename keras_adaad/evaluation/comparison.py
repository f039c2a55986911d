"""Comparison of reports of several models on the same images."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_adaad._typing import PathLike
from keras_adaad.evaluation import text
from keras_adaad.evaluation.pages import comparison_page
from keras_adaad.evaluation.same_task import attacks_of
from keras_adaad.evaluation.same_task import check_same_task
from keras_adaad.evaluation.same_task import task_of
from keras_adaad.evaluation.statistics import mcnemar
from keras_adaad.evaluation.statistics import median_difference_interval


class PairedAccuracy(NamedTuple):
    """Accuracies of two models on the same images, as fractions."""

    first: float
    second: float
    only_first: int
    only_second: int
    p_value: float

    @property
    def difference(self) -> float:
        """First minus second, in percentage points."""
        return 100 * (self.first - self.second)


class PairedPerturbation(NamedTuple):
    """Median perturbations of two models on the same images.

    `low` and `high` are the bounds of a 95 % interval of the difference, from
    a bootstrap over the images.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """First minus second, in the units of the images."""
        return self.first - self.second

    def __str__(self) -> str:
        return (
            f"median perturbation {self.first:.4g} and {self.second:.4g}, "
            f"difference {self.difference:+.4g} "
            f"[{self.low:+.4g}, {self.high:+.4g}]"
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The result of `RobustnessReport.compare`.

    Args:
        task: Description of the images and the threat model.
        first: Name of the model whose `compare` was called.
        second: Name of the other model.
        clean: `PairedAccuracy` on the clean images.
        robust: `PairedAccuracy` in the worst case over all attacks.
        same_attacks: Whether the same attacks ran on both, and all finished.
        reports: The pair of `RobustnessReport`s, for `save_html`.
        perturbation: `PairedPerturbation`, or `None` if a report has no finite
            `median_perturbation`.
    """

    task: str
    first: str
    second: str
    clean: PairedAccuracy
    robust: PairedAccuracy
    same_attacks: bool
    reports: tuple[Any, ...] = dataclasses.field(
        default=(), repr=False, compare=False
    )
    perturbation: PairedPerturbation | None = None

    def save_html(self, path: PathLike) -> None:
        """Writes the comparison as a page: one file that needs no network.

        Needs Jinja2.

        Args:
            path: Where to write, e.g. `"comparison.html"`.

        Raises:
            ImportError: If Jinja2 is not installed.
            ValueError: If the comparison has no reports.
        """
        if not self.reports:
            raise ValueError(
                "Argument `reports` of a comparison must be its two reports, "
                "to be written as a page. `RobustnessReport.compare` sets "
                f"them. Received: reports={self.reports!r}"
            )
        comparison_page.save(self._named(), [self], path)

    def _repr_html_(self) -> str | None:
        return comparison_page.short(self._named(), [self])

    def _accuracies(self):
        robust = text.worst_case(*self.reports)
        return {"clean": self.clean, robust: self.robust}

    def _named(self):
        names = [self.first, self.second]
        if self.first == self.second:
            names = [f"{name} ({i + 1})" for i, name in enumerate(names)]
        return dict(zip(names, self.reports, strict=bool(self.reports)))

    def __str__(self) -> str:
        row = "{:<12}{:>10}{:>10}{:>10}{:>14}{:>14}{:>10}".format
        lines = [
            *text.wrap(
                f"{self.first} (1) against {self.second} (2): {self.task}"
            ),
            "",
            row("", "1", "2", "points", "only 1 right", "only 2 right", "p"),
        ]
        for name, pair in self._accuracies().items():
            lines.append(
                row(
                    name,
                    f"{100 * pair.first:.2f}",
                    f"{100 * pair.second:.2f}",
                    f"{pair.difference:+.2f}",
                    pair.only_first,
                    pair.only_second,
                    f"{pair.p_value:.2g}",
                )
            )
        lines += ["", "Accuracy in %. p: exact two-sided McNemar test."]
        if self.perturbation is not None:
            lines += text.wrap(f"{self.perturbation}: 95 % bootstrap interval.")
        if not self.same_attacks:
            lines += text.wrap(
                "The attacks differ or were not all completed: the model that "
                "met the weaker ones looks better than it is."
            )
        lines += text.doubts_of_all(self._named())
        return "\n".join(lines)


class Comparisons:
    """Compares the first of several models with each of the others.

    `print` shows every comparison.

    Args:
        reports: Dictionary from the name of a model to its
            `RobustnessReport`, of at least two models.

    Raises:
        TypeError: If `reports` is not a dictionary.
        ValueError: If there are fewer than two reports, or if they differ in
            the images or the threat model.

    Example:

    ```python
    comparisons = keras_adaad.evaluation.Comparisons(
        {"AdaAD": adaad, "RSLAD": rslad, "teacher": teacher}
    )
    print(comparisons)
    comparisons.save_html("comparison.html")
    ```
    """

    def __init__(self, reports: Mapping[str, Any]) -> None:
        if not isinstance(reports, Mapping):
            raise TypeError(
                "Argument `reports` must be a dictionary from names of models "
                "to reports. "
                f"Received: reports of type {type(reports).__name__}"
            )
        if len(reports) < 2:
            raise ValueError(
                "Argument `reports` must have at least two reports. "
                f"Received: reports of {list(reports)}"
            )
        self.reports = dict(reports)
        (name, first), *others = self.reports.items()
        self.pairs = [
            _compare(f"reports[{other!r}]", (name, first), (other, report))
            for other, report in others
        ]

    def save_html(self, path: PathLike) -> None:
        """Writes the comparisons as a page: one file that needs no network.

        Needs Jinja2.

        Args:
            path: Where to write, e.g. `"comparison.html"`.

        Raises:
            ImportError: If Jinja2 is not installed.
        """
        comparison_page.save(self.reports, self.pairs, path)

    def _repr_html_(self) -> str | None:
        return comparison_page.short(self.reports, self.pairs)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.pairs))


def compare(first, second):
    """Implements `RobustnessReport.compare`."""
    return _compare(
        "other", (first.model_name, first), (second.model_name, second)
    )


def _compare(argument, first, second):
    """Compares two pairs of a name and a report."""
    (first_name, first), (second_name, second) = first, second
    check_same_task(argument, first, second)
    return Comparison(
        task=task_of(first),
        first=first_name,
        second=second_name,
        reports=(first, second),
        clean=_paired(first.clean, second.clean),
        robust=_paired(first.robust, second.robust),
        same_attacks=first.complete and attacks_of(first) == attacks_of(second),
        perturbation=_perturbation(first, second),
    )


def _paired(first, second):
    return PairedAccuracy(
        float(first.mean()), float(second.mean()), *mcnemar(first, second)
    )


def _perturbation(first, second):
    medians = [report.median_perturbation for report in (first, second)]
    if None in medians or not np.isfinite(medians).all():
        return None
    low, high = median_difference_interval(
        first._searched_perturbations, second._searched_perturbations
    )
    if not np.isfinite([low, high]).all():
        return None
    return PairedPerturbation(medians[0], medians[1], low, high)
