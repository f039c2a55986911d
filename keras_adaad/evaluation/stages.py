"""Runs the attacks of an evaluation, one after another."""

import dataclasses
import time

import keras
import numpy as np

from keras_adaad import checks
from keras_adaad.attacks import Attack
from keras_adaad.attacks import AutoAttack
from keras_adaad.attacks import get
from keras_adaad.attacks.presets import PRESETS
from keras_adaad.evaluation.attack_result import AttackResult
from keras_adaad.evaluation.threat_model import ThreatModel


@dataclasses.dataclass
class Stage:
    """An attack, its name in the report, and the ensemble it belongs to."""

    name: str
    group: str | None
    attack: Attack


def plan(attacks, threat_model, num_classes, shape=None):
    """Returns `(stages, missing)`, with ensembles split into their attacks.

    `missing` says which parts of an ensemble need more classes, or is `None`.
    An attack that cannot work on images of shape `shape` raises.
    """
    if isinstance(attacks, (str, Attack)):
        attacks = [attacks]
    if not isinstance(attacks, (list, tuple)) or not attacks:
        raise ValueError(
            "Argument `attacks` must be a list of names, such as "
            '["pgd", "autoattack"], or of attacks. '
            f"Received: attacks={attacks!r}"
        )
    stages, groups, missing = [], {}, {}  # type: ignore[var-annotated]
    for attack in attacks:
        name, attack = _resolve(attack, threat_model)
        if isinstance(attack, AutoAttack):
            parts, lacking = _take_apart(attack, num_classes)
            # A dict, so that two ensembles name an attack once.
            missing.update(dict.fromkeys(lacking))
            if parts[0].group:
                group = _numbered(parts[0].group, groups)
                parts = [Stage(p.name, group, p.attack) for p in parts]
            stages += parts
        else:
            attack._check_classes(num_classes)
            stages.append(Stage(name, None, attack))
    _number_equal_names(stages)
    for stage in stages if shape else []:
        next(iter(stage.attack.settings(shape, seed=0)))
    return stages, "; ".join(missing) or None


def identity(stages):
    """Returns values that identify the stages, for a digest."""
    return [
        (stage.name, stage.group, type(stage.attack), stage.attack._contents())
        for stage in stages
    ]


@dataclasses.dataclass(frozen=True)
class Findings:
    """The results of the attacks of an evaluation.

    `x_adv` holds, for each image, the first point that fooled the model or, if
    there is none, the clean image. `logits` are the model's logits on `x_adv`.
    `in_time` says whether the curve and the checks may follow: it is decided
    once, so that a slow curve leaves no check out.
    """

    results: list[AttackResult]
    x_adv: np.ndarray
    logits: np.ndarray
    in_time: bool


def run_stages(task):
    """Runs the attacks in turn, and saves finished ones in the state file."""
    results, x_adv = task.resumed
    for stage in task.stages[len(results) :]:
        robust = results[-1].robust if results else task.clean
        result, points = run_stage(task, stage, robust)
        new = robust & ~result.robust
        x_adv[new] = points[new]
        results.append(result)
        if all(result.complete for result in results):
            task.state.save(results, x_adv, task.x)
    logits = task.classifier.predict(x_adv, task.batch_size)
    return Findings(results, x_adv, logits, task.in_time())


def run_stage(task, stage, robust):
    """Runs one attack; returns its `AttackResult` and a point per image."""
    x, clean = task.x, task.clean
    begin, attack = time.monotonic(), stage.attack
    seed = task.seed if attack.seed is None else attack.seed
    left = np.flatnonzero(clean if task.individual else robust)
    fooled, x_adv, lost = np.zeros(len(x), bool), x.copy(), []
    perturbations = np.full(len(x), np.inf)
    complete = len(left) == 0 or task.in_time()
    attacked = len(left) if complete else 0
    if attacked:
        bar = _Bar(task, stage, len(left), seed)
        outcome = task.run(attack, left, seed, bar.advance)
        x_adv[left] = outcome.x_adv
        # A point outside the ball or the range does not count.
        inside = task.threat_model.contains(outcome.x_adv, x[left])
        fooled[left] = outcome.fooled & inside
        lost = left[outcome.lost | ~inside].tolist()
        perturbations[left] = _sizes(task, outcome, x[left], fooled[left])
        complete = outcome.complete
        bar.finish((robust & ~fooled).mean())
    alone = complete and len(left) == clean.sum()
    result = AttackResult(
        name=stage.name,
        group=stage.group,
        parameters={
            "attack": type(attack).__name__,
            **attack.get_config(),
            "seed": seed,
        },
        attacked=attacked,
        seconds=time.monotonic() - begin,
        robust=robust & ~fooled,
        individual=clean & ~fooled if alone else None,
        complete=complete,
        lost=lost,
        perturbations=perturbations,
        minimum_norm=attack.minimum_norm,
    )
    return result, x_adv


def _sizes(task, outcome, x, fooled):
    """Returns the size of each perturbation that fools, infinite if none."""
    beyond = np.full(len(x), np.inf)
    if outcome.distance is not None:
        # Within epsilon, only the points of the outcome count.
        outside = outcome.distance > task.threat_model.epsilon
        beyond = np.where(outside, outcome.distance, np.inf)
    # Larger by rounding alone, for these are inside the ball.
    sizes = task.threat_model.sizes(outcome.x_adv - x)
    sizes = np.minimum(sizes, task.threat_model.epsilon)
    return np.where(fooled, sizes, beyond)


class _Bar:
    """A progress bar, or lines, that also watches the time."""

    def __init__(self, task, stage, images, seed):
        attack = stage.attack
        self.task = task
        self.steps = attack._rounds(task.classifier.num_classes) * sum(
            1 for _ in attack.settings(task.x.shape[1:], seed)
        )
        self.target = images
        self.moved = self.done = 0
        self.bar = None
        if task.verbose:
            # A pipe would keep it back until the end.
            print(f"{stage.name}: {images} images", flush=True)
        if task.verbose == 1:
            self.bar = keras.utils.Progbar(images, unit_name="image")

    def advance(self, images):
        self.moved += images
        if self.bar is not None:
            done = min(self.moved // self.steps, self.target - 1)
            if done > self.done:
                self.bar.update(done, finalize=False)
                self.done = done
        return not self.task.in_time()

    def finish(self, robust_accuracy):
        if self.bar is not None:
            values = [("robust_accuracy", robust_accuracy)]
            self.bar.update(self.target, values, finalize=True)
        elif self.task.verbose:
            accuracy = 100 * robust_accuracy
            print(f"robust accuracy {accuracy:.2f} %", flush=True)


def _resolve(attack, threat_model):
    if isinstance(attack, str):
        checks.check_choice("attacks", attack, tuple(PRESETS))
        return attack, get(attack, **dataclasses.asdict(threat_model))
    if not isinstance(attack, Attack):
        raise TypeError(
            "Argument `attacks` must hold names and "
            "`keras_adaad.attacks.Attack`s. "
            f"Received: {attack!r} (of type {type(attack).__name__})"
        )
    attack._check_usable()
    own = ThreatModel(attack.epsilon, attack.norm, attack.input_range)
    if own != threat_model:
        raise ValueError(
            "All of `attacks` must have the threat model of the evaluation. "
            f"Pass `epsilon={own.epsilon:g}` and the attack's norm and range "
            "to the evaluation, or give the attack those of the evaluation. "
            f"Received: {own!r} in {attack!r}, and {threat_model!r}"
        )
    return type(attack).__name__.lower(), attack


def _take_apart(attack, num_classes):
    """Returns the stages of an AutoAttack, and which parts are missing."""
    parts = attack.attacks()
    missing = []
    for name, part in list(parts.items()):
        try:
            part._check_classes(num_classes)
        except ValueError:
            del parts[name]
            missing.append(f"{name} cannot run")
            continue
        if getattr(part, "targets", None) and part.targets > num_classes - 1:
            missing.append(
                f"{name} has {num_classes - 1} targets, not {part.targets}"
            )
    # A subclass may hold other attacks.
    name = "AutoAttack" if type(attack) is AutoAttack else type(attack).__name__
    group = None if missing else f"{name} ({attack.version})"
    stages = [Stage(name, group, part) for name, part in parts.items()]
    return stages, missing


def _number_equal_names(stages):
    # Reports use this name for the clean accuracy.
    seen = {"clean": 1}
    for stage in stages:
        stage.name = _numbered(stage.name, seen)


def _numbered(name, seen):
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name} ({seen[name]})"
