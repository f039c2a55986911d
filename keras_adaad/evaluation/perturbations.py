"""The smallest perturbation of each image that any attack found."""

import numpy as np

from keras_adaad.evaluation.attack_result import AttackResult


def smallest(
    clean: np.ndarray, results: list[AttackResult], epsilon: float
) -> np.ndarray:
    """Returns the sizes, 0 where the clean image is wrong, infinite if unknown.

    Each is an upper bound: a smaller one may exist.
    """
    found = np.where(clean, np.inf, 0.0)
    for result in results:
        if result.perturbations is not None:
            found = np.minimum(found, result.perturbations)
    fooled = ~np.logical_and.reduce([clean, *(r.robust for r in results)])
    # What fooled the model was inside the ball, but for rounding. Reports and
    # state files of earlier versions hold no sizes, so they give epsilon.
    return np.where(fooled, np.minimum(found, epsilon), found)


def of_minimum_norm(
    clean: np.ndarray, results: list[AttackResult]
) -> list[AttackResult]:
    """Returns the results of minimum-norm attacks that cover all images.

    They ran on every image that is correct when clean, and finished.
    """
    return [
        result
        for result in results
        if result.minimum_norm
        and result.complete
        and result.attacked == clean.sum()
    ]


def searched(
    clean: np.ndarray, results: list[AttackResult], epsilon: float
) -> np.ndarray:
    """Returns `smallest`, infinite where only another attack found it.

    An attack within epsilon finds a point near the border of the ball, however
    small the smallest perturbation is. So its sizes say nothing about a median.
    """
    found = np.where(clean, np.inf, 0.0)
    for result in of_minimum_norm(clean, results):
        if result.perturbations is not None:
            found = np.minimum(found, result.perturbations)
    return np.where(found <= smallest(clean, results, epsilon), found, np.inf)
