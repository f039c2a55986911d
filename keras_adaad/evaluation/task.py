"""The input of an evaluation, checked before any attack runs."""

import dataclasses
import random
import time
from collections.abc import Callable

import keras
import numpy as np

from keras_adaad import checks
from keras_adaad.attacks.attack import Attack
from keras_adaad.attacks.attack import check_attackable
from keras_adaad.attacks.attack import check_function_attacks
from keras_adaad.attacks.search import Outcome
from keras_adaad.evaluation.attack_result import AttackResult
from keras_adaad.evaluation.stages import Stage
from keras_adaad.evaluation.stages import identity
from keras_adaad.evaluation.stages import plan
from keras_adaad.evaluation.state import RESULTS_SINCE
from keras_adaad.evaluation.state import State
from keras_adaad.evaluation.threat_model import ThreatModel
from keras_adaad.frozen import function
from keras_adaad.frozen.network import tolerance


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """A model, its images, and the attacks to run on it.

    The fields are the arguments of `evaluate_robustness`, checked, and what
    follows from them. `x` and `y` are already selected by `indices`, and `y`
    holds class indices. `logits` are the model's logits on `x`. `missing` says
    which parts of an ensemble need more classes. `resumed` is the pair
    `(results, x_adv)` of an earlier evaluation that was killed. `begin` and
    `deadline` are times of `time.monotonic()`.
    """

    model: object
    classifier: object
    x: np.ndarray
    y: np.ndarray
    indices: np.ndarray
    logits: np.ndarray
    threat_model: ThreatModel
    stages: list[Stage]
    missing: str | None
    state: State
    resumed: tuple[list[AttackResult], np.ndarray]
    seed: int
    batch_size: int
    individual: bool
    reliability_checks: bool
    curve: bool | list[float]
    begin: float
    deadline: float | None
    class_names: list[str] | None
    verbose: int

    @property
    def is_function(self) -> bool:
        """Whether the model is a function, which has no gradient."""
        return not isinstance(self.model, keras.Model)

    @property
    def clean(self) -> np.ndarray:
        """Booleans: which images are correct without an attack."""
        return self.logits.argmax(-1) == self.y

    def in_time(self) -> bool:
        """Returns whether the time budget, if any, is not used up."""
        return self.deadline is None or time.monotonic() < self.deadline

    def run(
        self,
        attack: Attack,
        rows: np.ndarray,
        seed: int | None = None,
        stop: Callable[[int], bool] | None = None,
    ) -> Outcome:
        """Runs an attack on the images `rows`; returns its `Outcome`."""
        return attack._run(
            self.classifier,
            self.x[rows],
            self.y[rows],
            rows=rows,
            seed=self.seed if seed is None else seed,
            batch_size=self.batch_size,
            stop=stop,
        )


def prepare(
    model,
    x,
    y,
    attacks,
    threat_model,
    *,
    indices,
    batch_size,
    seed,
    individual,
    reliability_checks,
    curve,
    allow_probabilities,
    state_path,
    time_budget,
    class_names,
    verbose,
):
    """Returns the `Task` of the arguments of `evaluate_robustness`, or raises.

    It also classifies the clean images, and reads and takes over `state_path`.
    """
    begin = time.monotonic()
    batch_size = checks.check_integer("batch_size", batch_size)
    curve = _check_curve(curve)
    deadline = None
    if time_budget is not None:
        deadline = begin + checks.check_number("time_budget", time_budget)
    seed = random.randrange(2**31) if seed is None else seed
    seed = checks.check_integer("seed", seed, minimum=0)
    state = State(state_path)
    is_function = not isinstance(model, keras.Model)
    if is_function:
        curve = _check_function(model, attacks, threat_model, curve)
    x, y, num_classes = check_attackable(
        model, x, y, threat_model.input_range, allow_probabilities
    )
    indices = _check_indices(indices, len(x))
    x, y = x[indices], y[indices]
    class_names = _check_class_names(class_names, num_classes)
    stages, missing = plan(attacks, threat_model, num_classes, x.shape[1:])

    batch_size = min(batch_size, len(x))
    classifier = function.classifier_of(model, num_classes, seed, x)
    logits = classifier.predict(x, batch_size)
    _check_outputs(logits, allow_probabilities)
    resumed = state.begin(
        [
            # A function is identified by its logits alone.
            None if is_function else model,
            x,
            y,
            identity(stages),
            (seed, individual, keras.backend.backend(), RESULTS_SINCE),
        ],
        logits,
        1e-4 if is_function else tolerance(model),
        x,
    )
    return Task(
        model=model,
        classifier=classifier,
        x=x,
        y=y,
        indices=indices,
        logits=logits,
        threat_model=threat_model,
        stages=stages,
        missing=missing,
        state=state,
        resumed=resumed,
        seed=seed,
        batch_size=batch_size,
        individual=individual,
        reliability_checks=reliability_checks,
        curve=curve,
        begin=begin,
        deadline=deadline,
        class_names=class_names,
        verbose=verbose,
    )


def _check_function(function, attacks, threat_model, curve):
    """Returns the curve to measure for a function, or raises."""
    # The number of classes is not known yet; 10 are enough for every attack.
    stages, _ = plan(attacks, threat_model, num_classes=10)
    check_function_attacks(
        function, {stage.name: stage.attack for stage in stages}
    )
    if not isinstance(curve, bool):
        raise ValueError(
            "Argument `curve` must be a bool for a model that is a function: "
            "the curve is measured with PGD, which needs a gradient. "
            f"Received: curve={curve}"
        )
    return False


def _check_outputs(logits, allow_probabilities):
    places = np.flatnonzero(~np.isfinite(logits).all(-1))
    if len(places):
        raise ValueError(
            "Argument `model` returns NaN or infinite logits on clean images, "
            f"so there is nothing to attack. Received: {len(places)} such "
            f"images, at {', '.join(map(str, places[:10]))}"
            f"{', ...' if len(places) > 10 else ''} of those evaluated"
        )
    if not allow_probabilities:
        checks.check_logits("model", logits)


def _check_curve(curve):
    if isinstance(curve, bool):
        return curve
    if curve is None or np.ndim(curve) != 1 or len(curve) == 0:
        raise ValueError(
            "Argument `curve` must be `True`, `False`, or a list of at least "
            f"one epsilon. Received: curve={curve!r}"
        )
    return [checks.check_number("curve", epsilon) for epsilon in curve]


def _check_indices(indices, num_images):
    if indices is None:
        return np.arange(num_images)
    indices = np.asarray(indices)
    whole = indices.ndim == 1 and indices.size and indices.dtype.kind in "iu"
    if not whole or indices.min() < 0 or indices.max() >= num_images:
        raise ValueError(
            "Argument `indices` must be a list of places in `x`, at least one "
            f"and all in [0, {num_images - 1}]. Received: indices={indices!r}"
        )
    places, counts = np.unique(indices, return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            "Argument `indices` must name each image once. "
            f"Received: {places[counts.argmax()]} {counts.max()} times"
        )
    return indices


def _check_class_names(names, num_classes):
    if names is not None and len(names) != num_classes:
        raise ValueError(
            "Argument `class_names` must have a name for each of the "
            f"{num_classes} classes. Received: {len(names)} names"
        )
    return names if names is None else [str(name) for name in names]
