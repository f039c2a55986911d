"""The robustness curve: accuracy over epsilon."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_adaad.attacks import PGD
from keras_adaad.evaluation.stages import Findings
from keras_adaad.evaluation.task import Task

# Number of images for the curve, and for checks that do not need all images.
SAMPLE = 200


def measure_curve(task: Task, findings: Findings) -> dict[str, Any] | None:
    """Measures the curve that the `Task` asks for, if there is time."""
    if task.curve is False or not findings.in_time:
        return None
    if task.curve is not True:
        return accuracy_over_epsilon(task, task.curve)
    epsilon = task.threat_model.epsilon
    largest = task.threat_model.half_range(task.x[0].size)
    multiples = [factor * epsilon for factor in (0.25, 0.5, 1.0, 2.0, 4.0)]
    epsilons = [e for e in multiples if e < largest] + [largest]
    return accuracy_over_epsilon(task, epsilons, SAMPLE)


def accuracy_over_epsilon(
    task: Task, epsilons: Sequence[float], num_images: int | None = None
) -> dict[str, Any]:
    """Measures the accuracy under PGD-20 as epsilon grows.

    A point that fools the model in a small ball is also in every larger ball.
    So each radius is tried only on the images not yet fooled, and the curve
    never rises.
    """
    robust = task.clean[:num_images]
    accuracy = []
    for epsilon in sorted(epsilons):
        left = np.flatnonzero(robust)
        if len(left) and epsilon > 0.0:
            attack = PGD(
                epsilon=epsilon,
                steps=20,
                norm=task.threat_model.norm,
                input_range=task.threat_model.input_range,
            )
            outcome = task.run(attack, left)
            robust[left] = ~outcome.fooled
        accuracy.append(float(robust.mean()))
    return {
        "attack": "PGD-20",
        "epsilons": [float(epsilon) for epsilon in sorted(epsilons)],
        "accuracy": accuracy,
        "num_images": len(robust),
    }
