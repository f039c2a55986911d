"""Whether reports are of the same images, threat model and attacks."""

import math
from typing import Any

import numpy as np

# Reading and resizing the same files elsewhere changes a mean by less.
TOLERANCE = 1e-5


def image_means(x: np.ndarray, input_range: tuple[float, float]) -> np.ndarray:
    """Returns the mean of each image, in units of the input range."""
    low, high = input_range
    axes = tuple(range(1, x.ndim))
    return (x.mean(axes, dtype="float64") - low) / (high - low)


def are_other_images(
    first: np.ndarray | None, second: np.ndarray | None
) -> bool:
    """Returns whether two arrays of means are known and of other images."""
    if first is None or second is None:
        return False
    return bool(np.abs(first - second).max() > TOLERANCE)


def task_of(report: Any) -> str:
    """Returns the images and the threat model of a report in words."""
    return f"{len(report.labels)} images, {report.threat_model}"


def attacks_of(report: Any) -> list[tuple[Any, ...]]:
    """Returns what ran on the images, apart from its random numbers."""
    return [
        (
            result.name,
            result.group,
            {**result.parameters, "seed": None},
            result.complete,
        )
        for result in report.results
    ]


def check_same_task(name: str, first: Any, second: Any) -> None:
    """Raises unless two reports are of the same images and threat model."""
    if not (
        np.array_equal(first.labels, second.labels)
        and np.array_equal(first.indices, second.indices)
    ):
        raise ValueError(
            f"Argument `{name}` must be a report on the same images: pairs of "
            "different images cannot be compared. Evaluate both models on the "
            f"same samples. Received: {len(first.labels)} and "
            f"{len(second.labels)} images with different labels or indices"
        )
    if are_other_images(first.image_means, second.image_means):
        apart = np.abs(first.image_means - second.image_means)
        raise ValueError(
            f"Argument `{name}` must be a report on the same images: pairs of "
            "different images cannot be compared. Evaluate both models on the "
            "same samples, prepared alike. Received: images with the same "
            f"labels and indices, whose means differ by up to "
            f"{apart.max():.3g} of the input range"
        )
    ours, theirs = first.threat_model, second.threat_model
    if (
        ours.norm != theirs.norm
        or ours.input_range != theirs.input_range
        or not math.isclose(ours.epsilon, theirs.epsilon, rel_tol=1e-6)
    ):
        raise ValueError(
            f"Argument `{name}` must be a report of the same threat model. "
            "Evaluate both models with the same `epsilon`, `norm` and "
            f"`input_range`. Received: {ours}, {ours.input_range} and "
            f"{theirs}, {theirs.input_range}"
        )
