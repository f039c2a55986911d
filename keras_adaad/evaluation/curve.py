"""The robustness curve: accuracy over epsilon."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_adaad.attacks import PGD
from keras_adaad.attacks import Attack
from keras_adaad.attacks.search import Outcome
from keras_adaad.evaluation import perturbations
from keras_adaad.evaluation.stages import Findings
from keras_adaad.evaluation.task import Task
from keras_adaad.evaluation.threat_model import ThreatModel

# Number of images on which the curve of PGD is measured, and of the checks that
# do not need all images.
SAMPLE = 200
# Radii of the two curves, in epsilons. One of PGD costs a run of the attack.
PGD_RADII = (0.25, 0.5, 1.0, 2.0, 4.0)
MINIMUM_NORM_RADII = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)


def measure_curve(task: Task, findings: Findings) -> dict[str, Any] | None:
    """Measures the curve that the `Task` asks for, if there is time.

    If a minimum-norm attack ran on all images that are correct when clean, the
    curve follows from the smallest perturbations. PGD runs only on the images
    where there is none. Otherwise it runs on all.
    """
    if task.curve is False or not findings.in_time:
        return None
    results, epsilon = findings.results, task.threat_model.epsilon
    attacks = perturbations.minimum_norm_attacks(task.clean, results)
    known = perturbations.smallest(task.clean, results, epsilon)
    if task.curve is True and np.isinf(known).sum() > SAMPLE:
        # PGD on so many images would cost more than the curve of PGD.
        attacks = []
    epsilons = task.curve
    if epsilons is True:
        epsilons = _radii(task, MINIMUM_NORM_RADII if attacks else PGD_RADII)
    if not attacks:
        num_images = SAMPLE if task.curve is True else None
        return accuracy_over_epsilon(task, epsilons, num_images)
    curve = accuracy_over_epsilon(task, epsilons, known=known)
    if np.isinf(known).any():
        attacks.append("PGD-20")
    curve["attack"] = f"smallest perturbation by {' and '.join(attacks)}"
    return curve


def _radii(task, multiples):
    """Returns multiples of epsilon, up to half the range."""
    largest = task.threat_model.half_range(task.x[0].size)
    radii = [factor * task.threat_model.epsilon for factor in multiples]
    return [radius for radius in radii if radius < largest] + [largest]


def accuracy_over_epsilon(
    task: Task,
    epsilons: Sequence[float],
    num_images: int | None = None,
    known: np.ndarray | None = None,
) -> dict[str, Any]:
    """Measures the accuracy under PGD-20 as epsilon grows."""
    clean = task.clean[:num_images]
    robust = robust_images(task.run, clean, task.threat_model, epsilons, known)
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
    known: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yields which images are correct under PGD-20, radius after radius.

    A point that fools the model in a small ball is also in every larger ball.
    So each radius is tried only on the images not yet fooled, and the curve
    never rises. `run(attack, rows)` attacks the images `rows`; `clean` says
    which images are correct without an attack. PGD spares the images whose
    smallest perturbation is `known`, a finite number.
    """
    robust = clean.copy()
    if known is None:
        known = np.full(len(clean), np.inf)
    for epsilon in sorted(epsilons):
        robust &= known > epsilon
        left = np.flatnonzero(robust & np.isinf(known))
        if len(left) and epsilon > 0.0:
            attack = PGD(
                epsilon=epsilon,
                steps=20,
                norm=threat_model.norm,
                input_range=threat_model.input_range,
            )
            robust[left] = ~run(attack, left).fooled
        yield robust.copy()
