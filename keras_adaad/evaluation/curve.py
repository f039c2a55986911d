"""The robustness curve: accuracy over epsilon."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_adaad.attacks import Attack
from keras_adaad.attacks import get
from keras_adaad.attacks.search import Outcome
from keras_adaad.evaluation import perturbations
from keras_adaad.evaluation.stages import Findings
from keras_adaad.evaluation.task import Task
from keras_adaad.evaluation.threat_model import ThreatModel

# Number of images on which the curve of PGD is measured, and of the checks that
# do not need all images.
SAMPLE = 200
# Radii of the curve, in epsilons. Each costs a run of PGD.
RADII = (0.25, 0.5, 1.0, 2.0, 4.0)
# A curve from smallest perturbations may be this far above PGD's.
TOLERANCE = 0.005


def measure_curve(task: Task, findings: Findings) -> dict[str, Any] | None:
    """Measures the curve that the `Task` asks for, if there is time.

    PGD-20 runs at each radius. If a minimum-norm attack ran on all images that
    are correct when clean, PGD skips those that a known perturbation within the
    radius fools.
    """
    if task.curve is False or not findings.in_time:
        return None
    epsilons = _radii(task) if task.curve is True else task.curve
    rows = np.arange(len(task.x))
    if task.curve is True:
        rows = sampled(rows)
    results, epsilon = findings.results, task.threat_model.epsilon
    searched = perturbations.of_minimum_norm(task.clean, results)
    if not searched:
        return accuracy_over_epsilon(task, epsilons, rows)
    known = perturbations.smallest(task.clean, results, epsilon)
    attacks = ", ".join(result.name for result in searched)
    return _from_smallest(task, epsilons, rows, attacks, known)


def sampled(places: np.ndarray, count: int | None = None) -> np.ndarray:
    """Returns at most `count` of some places, or `SAMPLE`, in their order.

    They are the same in every call, and drawn at random: the first images of a
    data set may all be of one class.
    """
    count = SAMPLE if count is None else count
    if len(places) <= count:
        return places
    generator = np.random.default_rng(0)
    return np.sort(generator.permutation(places)[:count])


def _radii(task):
    """Returns multiples of epsilon, up to half the range."""
    largest = task.threat_model.half_range(task.x[0].size)
    radii = [factor * task.threat_model.epsilon for factor in RADII]
    return [radius for radius in radii if radius < largest] + [largest]


def accuracy_over_epsilon(
    task: Task, epsilons: Sequence[float], rows: np.ndarray
) -> dict[str, Any]:
    """Measures the accuracy of some images under PGD-20 as epsilon grows."""
    return _curve("PGD-20", epsilons, _robust(task, epsilons, rows))


def _robust(task, epsilons, rows, known=None):
    """Returns which of some images are robust at each radius."""
    found = robust_images(
        lambda attack, left: task.run(attack, rows[left]),
        task.clean[rows],
        task.threat_model,
        epsilons,
        None if known is None else known[rows],
    )
    return list(found)


def _from_smallest(task, epsilons, rows, attacks, known):
    """Returns the curve from the smallest perturbations, checked by PGD-20.

    A minimum-norm attack can miss small perturbations that PGD finds. If the
    two differ on the checked images, the curve covers only these images.
    """
    checked = _robust(task, epsilons, rows, known)
    attack = f"smallest perturbation by {attacks}"
    everywhere = [known > epsilon for epsilon in sorted(epsilons)]
    size = len(rows)
    too_high = max(
        np.mean(all_images[rows]) - np.mean(images)
        for all_images, images in zip(everywhere, checked, strict=True)
    )
    if size == len(known) or too_high > TOLERANCE:
        return _curve(f"{attack} and PGD-20", epsilons, checked)
    for all_images, images in zip(everywhere, checked, strict=True):
        all_images[rows] = images
    return _curve(
        f"{attack}, and PGD-20 on {size} images", epsilons, everywhere
    )


def _curve(attack, epsilons, robust):
    return {
        "attack": attack,
        "epsilons": [float(epsilon) for epsilon in sorted(epsilons)],
        "accuracy": [float(images.mean()) for images in robust],
        "num_images": len(robust[0]),
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
    which images are correct without an attack. For each image, `known` has the
    size of a perturbation that fools the model. From this radius on, the image
    is not robust, and PGD skips it.
    """
    robust = clean.copy()
    for epsilon in sorted(epsilons):
        if known is not None:
            robust &= known > epsilon
        left = np.flatnonzero(robust)
        if len(left) and epsilon > 0.0:
            attack = get(
                "pgd-20-sat",
                epsilon=epsilon,
                norm=threat_model.norm,
                input_range=threat_model.input_range,
            )
            robust[left] = ~run(attack, left).fooled
        yield robust.copy()
