"""The robustness curve: accuracy over epsilon."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_adaad.attacks import PGD
from keras_adaad.attacks import Attack
from keras_adaad.attacks.search import Outcome
from keras_adaad.evaluation.stages import Findings
from keras_adaad.evaluation.task import Task
from keras_adaad.evaluation.threat_model import ThreatModel

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
    """Measures the accuracy under PGD-20 as epsilon grows."""
    clean = task.clean[:num_images]
    robust = robust_images(task.run, clean, task.threat_model, epsilons)
    return {
        "attack": "PGD-20",
        "epsilons": [float(epsilon) for epsilon in sorted(epsilons)],
        "accuracy": [float(images.mean()) for images in robust],
        "num_images": len(clean),
    }


def robust_images(
    run: Callable[[Attack, np.ndarray], Outcome],
    clean: np.ndarray,
    threat_model: ThreatModel,
    epsilons: Sequence[float],
) -> Iterator[np.ndarray]:
    """Yields which images are correct under PGD-20, radius after radius.

    A point that fools the model in a small ball is also in every larger ball.
    So each radius is tried only on the images not yet fooled, and the curve
    never rises. `run(attack, rows)` attacks the images `rows`; `clean` says
    which images are correct without an attack.
    """
    robust = clean.copy()
    for epsilon in sorted(epsilons):
        left = np.flatnonzero(robust)
        if len(left) and epsilon > 0.0:
            attack = PGD(
                epsilon=epsilon,
                steps=20,
                norm=threat_model.norm,
                input_range=threat_model.input_range,
            )
            robust[left] = ~run(attack, left).fooled
        yield robust.copy()
