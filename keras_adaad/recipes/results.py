"""The accuracies that papers report for the recipes, as data."""

import dataclasses
import functools
import json
import pathlib

PATH = pathlib.Path(__file__).with_name("published_results.json")


@dataclasses.dataclass(frozen=True)
class PublishedResult:
    """Accuracies that a paper, or a repository, reports for a recipe.

    `None` marks a value that the source does not state. Epsilon is 8/255, and
    the accuracies are those of the whole test set.

    Args:
        recipe: Name of the recipe, see `keras_adaad.recipes.get`.
        dataset: `"cifar10"` or `"cifar100"`.
        student: Name of the network in `keras_adaad.models`.
        teacher: Id of the teacher in RobustBench, or a description; `None` if
            there is no teacher, too.
        epochs: Number of epochs.
        clean_accuracy: Accuracy on the test images, in percent.
        robust_accuracy: Accuracy under `attack`, in percent.
        attack: `"AutoAttack"` or `"PGD-20"`.
        source: Where the numbers are found.
    """

    recipe: str
    dataset: str
    student: str
    teacher: str | None
    epochs: int | None
    clean_accuracy: float | None
    robust_accuracy: float
    attack: str
    source: str

    def __str__(self) -> str:
        clean = ""
        if self.clean_accuracy is not None:
            clean = f", {self.clean_accuracy:.2f} % clean"
        setting = [self.student]
        if self.epochs is not None:
            setting.append(f"{self.epochs} epochs")
        if self.teacher is not None:
            setting.append(f"teacher {self.teacher}")
        return (
            f"{self.robust_accuracy:.2f} % under {self.attack}{clean} "
            f"({', '.join(setting)}): {self.source}"
        )


@functools.cache
def _all_results():
    rows = json.loads(PATH.read_text(encoding="utf-8"))
    return tuple(PublishedResult(**row) for row in rows)


def published_results(
    name: str, dataset: str | None = None
) -> list[PublishedResult]:
    """Returns the accuracies that papers report for a recipe.

    The numbers of different sources cannot be compared closely: teachers,
    epochs, and the choice of the epoch that is reported differ, and a run with
    another seed differs by several tenths of a point. Most are of one run. An
    accuracy of PGD-AT at the last epoch is several points lower than that of
    the best epoch.

    Args:
        name: Name of the recipe, e.g. `"AdaAD"`.
        dataset: Data set to select. Defaults to all.

    Returns:
        A list of `keras_adaad.recipes.PublishedResult`, empty if no number is
        known. Each prints as text.

    Example:

    ```python
    for result in keras_adaad.recipes.published_results("AdaAD", "cifar10"):
        print("published:", result)
    ```
    """
    return [
        result
        for result in _all_results()
        if result.recipe == name and dataset in (None, result.dataset)
    ]
