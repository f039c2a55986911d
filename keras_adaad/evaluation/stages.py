"""The attacks of an evaluation, one after another, and their state on disk."""

import dataclasses
import json
import logging
import os
import time
import uuid

import keras
import numpy as np

from keras_adaad.attacks import Attack
from keras_adaad.attacks import AutoAttack
from keras_adaad.attacks import get
from keras_adaad.attacks.digest import digest
from keras_adaad.evaluation.report import AttackResult
from keras_adaad.writing import write_atomically

LOGGER = logging.getLogger("keras_adaad")


@dataclasses.dataclass
class Stage:
    """An attack to run.

    Args:
        name: Its name in the report.
        group: Name of the ensemble that it is a part of, or `None`.
        attack: The `Attack`.
    """

    name: str
    group: str | None
    attack: Attack


def plan(attacks, threat, num_classes, shape=None):
    """Returns the stages of an evaluation, ensembles taken apart.

    Args:
        attacks: Names, `Attack`s, or a list of either.
        threat: Dict of the `epsilon`, `norm` and `input_range` of all attacks.
        num_classes: Number of classes of the model.
        shape: Shape of an image. An attack that cannot work on it raises.

    Returns:
        A tuple `(stages, missing)`; `missing` says what of an ensemble so few
        classes leave out, or is `None`.
    """
    if isinstance(attacks, (str, Attack)):
        attacks = [attacks]
    if not isinstance(attacks, (list, tuple)) or not attacks:
        raise ValueError(
            "Argument `attacks` must be a list of names, such as "
            '["pgd", "autoattack"], or of attacks. '
            f"Received: attacks={attacks!r}"
        )
    stages, missing, groups = [], None, {}
    for attack in attacks:
        name, attack = _resolve(attack, threat)
        if isinstance(attack, AutoAttack):
            parts, missing = _take_apart(attack, num_classes)
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
    return stages, missing


def identity(stages):
    """Returns what tells these stages from others, to take the digest of."""
    return [
        (stage.name, stage.group, type(stage.attack), stage.attack._contents())
        for stage in stages
    ]


def run_stages(stages, classifier, x, y, clean, *, state, found, **options):
    """Runs attack after attack; what is done is kept in the state file.

    Args:
        stages: List of `Stage`.
        classifier: The `Classifier` of the model.
        x: Images.
        y: Class indices.
        clean: Booleans: which images are right without an attack.
        state: The `State`.
        found: What its `begin` returned.
        **options: As of `run_stage`.

    Returns:
        A tuple `(results, x_adv)`: a list of `AttackResult`, and for each
        image the first point that fooled the model, or the clean image.
    """
    results, x_adv = found
    for stage in stages[len(results) :]:
        robust = results[-1].robust if results else clean
        result, points = run_stage(
            stage, classifier, x, y, clean, robust, **options
        )
        new = robust & ~result.robust
        x_adv[new] = points[new]
        results.append(result)
        if all(result.complete for result in results):
            state.save(results, x_adv, x)
    return results, x_adv


def run_stage(
    stage,
    classifier,
    x,
    y,
    clean,
    robust,
    *,
    seed,
    batch_size,
    individual,
    deadline,
    verbose,
):
    """Runs one attack, each image from its clean self.

    Args:
        stage: The `Stage`.
        classifier: The `Classifier` of the model.
        x: Images.
        y: Class indices.
        clean: Booleans: which images are right without an attack.
        robust: Booleans: which are right after the attacks before.
        seed: Integer that decides the draws of attacks without a seed.
        batch_size: Images per compiled call.
        individual: Whether the attack sees all images of `clean`, or only
            those of `robust`.
        deadline: Time (`time.monotonic()`) at which the attack ends, or
            `None`.
        verbose: Whether to show a progress bar.

    Returns:
        A tuple `(result, x_adv)`: an `AttackResult`, and a point for each
        image.
    """
    begin, attack = time.monotonic(), stage.attack
    seed = seed if attack.seed is None else attack.seed
    left = np.flatnonzero(clean if individual else robust)
    fooled, x_adv, lost = np.zeros(len(x), bool), x.copy(), []
    complete = len(left) == 0 or deadline is None or begin < deadline
    attacked = len(left) if complete else 0
    if attacked:
        bar = _Bar(stage, len(left), classifier, x, seed, deadline, verbose)
        outcome = attack._run(
            classifier,
            x[left],
            y[left],
            rows=left,
            seed=seed,
            batch_size=batch_size,
            stop=bar.advance,
        )
        x_adv[left] = outcome.x_adv
        # A point outside the ball or the range does not count.
        inside = within(outcome.x_adv, x[left], attack)
        fooled[left] = outcome.fooled & inside
        lost = left[outcome.lost | ~inside].tolist()
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
    )
    return result, x_adv


def within(x_adv, x, attack):
    """Returns which points lie in the ball and the range, in float64."""
    axes = tuple(range(1, x.ndim))
    delta = x_adv.astype("float64") - x
    low, high = attack.input_range
    slack = 1e-6 * (high - low)
    sizes = perturbation_sizes(delta, attack.norm)
    return (
        (sizes <= attack.epsilon * (1 + 1e-5) + slack)
        & (x_adv >= np.minimum(low, x) - slack).all(axes)
        & (x_adv <= np.maximum(high, x) + slack).all(axes)
    )


def perturbation_sizes(delta, norm):
    """Returns the norm of each perturbation, a float64 array."""
    flat = np.abs(delta.reshape(len(delta), -1).astype("float64"))
    return flat.max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)


class State:
    """The results so far, in a file: a killed evaluation resumes.

    Of several processes with one file, the last that began owns it. The others
    go on without it.

    Args:
        path: Path of the file, or `None` to keep nothing.

    Raises:
        TypeError: If `path` is no path.
        ValueError: If its folder does not exist, or it is a folder.
    """

    def __init__(self, path):
        self.path = path
        self._owner = uuid.uuid4().hex
        if path is None:
            return
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(
                "Argument `state_path` must be a path, such as "
                f'"state.npz". Received: state_path={path!r}'
            )
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder) or os.path.isdir(path):
            raise ValueError(
                "Argument `state_path` must be a file in a folder that "
                f"exists. Received: state_path={str(path)!r}"
            )

    def begin(self, task, logits, tolerance, x):
        """Reads what was found before, and takes the file.

        Args:
            task: What the results belong to. A file of another task is
                refused.
            logits: The model's logits on the images. They are compared with
                those of the file.
            tolerance: By how much of the largest logit they may differ.
            x: The clean images.

        Returns:
            A tuple `(results, x_adv)`.
        """
        results, x_adv = [], x.copy()
        if self.path is None:
            return results, x_adv
        self._task, self._logits = digest(task), logits
        if os.path.exists(self.path):
            results, x_adv = self._read(tolerance, x)
        self._write(results, x_adv, x)
        return results, x_adv

    def save(self, results, x_adv, x):
        """Writes the file, all of it or none."""
        if self.path is None:
            return
        if self._is_mine():
            self._write(results, x_adv, x)
        else:
            LOGGER.warning(
                "Another evaluation has taken `state_path=%s`. This one goes "
                "on, and no longer saves its results there.",
                self.path,
            )
            self.path = None

    def _is_mine(self):
        try:
            with open(self.path, "rb") as file, np.load(file) as content:
                return str(content["owner"]) == self._owner
        except FileNotFoundError:
            return True
        except Exception:  # Something else is there now.
            return False

    def _read(self, tolerance, x):
        try:
            with open(self.path, "rb") as file, np.load(file) as arrays:
                content = {name: arrays[name] for name in arrays.files}
            task, logits = str(content["task"]), content["logits"]
            if task == self._task:
                results = [
                    AttackResult(
                        **values,
                        robust=content[f"robust_{k}"],
                        individual=content.get(f"individual_{k}"),
                    )
                    for k, values in enumerate(
                        json.loads(str(content["results"]))
                    )
                ]
                x_adv = x.copy()
                x_adv[content["rows"]] = content["x_adv"]
        except Exception as error:  # What is damaged fails in many ways.
            raise ValueError(
                "Argument `state_path` must be a file that an evaluation "
                "wrote, or not exist yet. If it is damaged, delete it. "
                f"Received: state_path={str(self.path)!r} "
                f"({type(error).__name__}: {error})"
            ) from error
        largest = np.abs(self._logits).max()
        if task != self._task or not np.allclose(
            logits, self._logits, rtol=0.0, atol=tolerance * largest
        ):
            raise ValueError(
                "Argument `state_path` belongs to another evaluation: the "
                "model, its weights or its logits, the data, the attacks, the "
                "seed or the version of keras_adaad differ. Delete the file, "
                "or choose another path. "
                f"Received: state_path={str(self.path)!r}"
            )
        return results, x_adv

    def _write(self, results, x_adv, x):
        axes = tuple(range(1, x.ndim))
        rows = np.flatnonzero((x_adv != x).any(axes))
        content = {
            "owner": self._owner,
            "task": self._task,
            "logits": self._logits,
            "rows": rows,
            "x_adv": x_adv[rows],
        }
        saved = []
        for k, result in enumerate(results):
            values = dict(vars(result))
            content[f"robust_{k}"] = values.pop("robust")
            individual = values.pop("individual")
            if individual is not None:
                content[f"individual_{k}"] = individual
            saved.append(values)
        content["results"] = json.dumps(saved)

        def write(part):
            with open(part, "wb") as file:
                np.savez(file, **content)

        write_atomically(self.path, write)


class _Bar:
    """A progress bar that also watches the time."""

    def __init__(self, stage, images, classifier, x, seed, deadline, verbose):
        attack = stage.attack
        self.deadline = deadline
        self.steps = attack._rounds(classifier.num_classes) * sum(
            1 for _ in attack.settings(x.shape[1:], seed)
        )
        self.target = images
        self.moved = self.done = 0
        self.bar = None
        if verbose:
            print(f"{stage.name}: {images} images")
            self.bar = keras.utils.Progbar(images, unit_name="image")

    def advance(self, images):
        self.moved += images
        if self.bar is not None:
            done = min(self.moved // self.steps, self.target - 1)
            if done > self.done:
                self.bar.update(done, finalize=False)
                self.done = done
        return self.deadline is not None and time.monotonic() > self.deadline

    def finish(self, robust_accuracy):
        if self.bar is not None:
            values = [("robust_accuracy", robust_accuracy)]
            self.bar.update(self.target, values, finalize=True)


def _resolve(attack, threat):
    if isinstance(attack, str):
        return attack, get(attack, **threat)
    if not isinstance(attack, Attack):
        raise TypeError(
            "Argument `attacks` must hold names and "
            "`keras_adaad.attacks.Attack`s. "
            f"Received: {attack!r} (of type {type(attack).__name__})"
        )
    attack._check_usable()
    own = {name: getattr(attack, name) for name in threat}
    if own != threat:
        raise ValueError(
            "All of `attacks` must have the threat model of the evaluation. "
            f"Received: {own} in {attack!r}, and {threat}"
        )
    return type(attack).__name__.lower(), attack


def _take_apart(attack, num_classes):
    """Returns the stages of an AutoAttack; without its name if not in full."""
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
    group = None if missing else f"AutoAttack ({attack.version})"
    stages = [Stage(name, group, part) for name, part in parts.items()]
    return stages, "; ".join(missing) or None


def _number_equal_names(stages):
    # A report has an accuracy of this name.
    seen = {"clean": 1}
    for stage in stages:
        stage.name = _numbered(stage.name, seen)


def _numbered(name, seen):
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name} ({seen[name]})"
