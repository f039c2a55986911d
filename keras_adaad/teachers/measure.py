"""The measurements of one teacher with a briefly trained student."""

import dataclasses
import time
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.attacks.randomness import HostRNG
from keras_adaad.evaluation.curve import robust_images
from keras_adaad.evaluation.threat_model import ThreatModel
from keras_adaad.frozen.classifier import Classifier
from keras_adaad.frozen.classifier import batches
from keras_adaad.frozen.classifier import pad
from keras_adaad.frozen.digest import digest
from keras_adaad.losses import entropy_from_logits
from keras_adaad.losses import kl_divergence_from_logits
from keras_adaad.methods import RSLAD
from keras_adaad.methods import objectives
from keras_adaad.models.copying import copy_model
from keras_adaad.teachers.result import TeacherResult
from keras_adaad.teachers.unchanged import kept_trainable
from keras_adaad.teachers.unchanged import seeded

# Radii of the curve, in units of the attack's epsilon.
RADII = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
# In nats. A smaller divergence is rounding: the attack moved nothing.
MOVED = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What all teachers are measured on.

    `x` are all images, for the warm-up. `rows` are those that are measured,
    and `y` their class indices, or `None`.
    """

    x: np.ndarray
    rows: np.ndarray
    y: np.ndarray | None
    num_classes: int
    attack: ObjectiveAttack
    warmup: int
    batch_size: int
    seed: int

    @property
    def threat_model(self) -> ThreatModel:
        """Returns the ball of the attack."""
        attack = self.attack
        return ThreatModel(attack.epsilon, attack.norm, attack.input_range)

    @property
    def epsilons(self) -> list[float]:
        """Returns the radii of the curve, the attack's epsilon among them."""
        largest = self.threat_model.half_range(self.x[0].size)
        radii = [factor * self.attack.epsilon for factor in RADII]
        return [r for r in radii if r < largest or r <= self.attack.epsilon]

    @property
    def work(self) -> int:
        """Returns the number of parts that `measure` reports as done."""
        parts = len(batches(self.rows, self.batch_size))
        return self.warmup + 2 * parts + len(self.epsilons)


def measure(name, teacher, student, task, advance):
    """Returns the `TeacherResult` of a teacher.

    Neither network changes. `advance()` is called after each part of the work.
    """
    with seeded(task.seed), kept_trainable(teacher):
        copy = copy_model(student)
        seconds = _warm_up(teacher, copy, task, advance)
        x = task.x[task.rows]
        of_teacher, of_student = (
            Classifier.of(network, task.num_classes, task.seed, x)
            for network in (teacher, copy)
        )
        logits = of_teacher.predict(x, task.batch_size)
        x_student, _ = _diverge(of_student, x, logits, task, advance)
        x_teacher, own = _diverge(of_teacher, x, logits, task, advance)
        after, farthest = (
            of_teacher.predict(x_adv, task.batch_size)
            for x_adv in (x_student, x_teacher)
        )
        own_classes = logits.argmax(-1).astype("int32")
        y = own_classes if task.y is None else task.y
        clean = own_classes == y
        survived = _survived(name, of_teacher, x, y, clean, task, advance)
    moved, transferable = transfers(logits, after, farthest)
    if seconds is not None:
        seconds = {"RSLAD": seconds, "AdaAD": seconds + own}
    return TeacherResult(
        name=name,
        parameters=teacher.count_params(),
        moved=moved,
        transfers=transferable,
        entropy=ops.convert_to_numpy(entropy_from_logits(after)),
        clean=clean,
        survived=survived,
        seconds=seconds or {},
    )


def transfers(clean, after_student, after_own):
    """Returns which samples move a teacher's output, and which transfer.

    Where the attack on a teacher does not move its output, the two divergences
    are equal, and say nothing about the student.

    Args:
        clean: The teacher's logits on the clean images.
        after_student: On the images that the attack on the student found.
        after_own: On the images that the attack on the teacher found.
    """
    moved = kl_divergence_from_logits(clean, after_own) >= MOVED
    from_clean = kl_divergence_from_logits(after_student, clean)
    from_own = kl_divergence_from_logits(after_student, after_own)
    moved, nearer = (
        ops.convert_to_numpy(moved),
        ops.convert_to_numpy(from_clean >= from_own),
    )
    return moved, moved & nearer


def _warm_up(teacher, student, task, advance):
    """Trains a student briefly by RSLAD; returns the seconds of a step."""
    if task.warmup == 0:
        return None
    distiller = RSLAD(
        teacher,
        student,
        task.attack,
        evaluation_attack=None,
        seed=task.seed,
    )
    distiller.compile(keras.optimizers.Adam())
    clock = _Clock(advance)
    distiller.fit(
        _training_batches(task.x, task.batch_size, task.seed),
        epochs=1,
        steps_per_epoch=task.warmup,
        shuffle=False,  # The generator does it.
        callbacks=[clock],
        verbose=0,
    )
    return clock.seconds(task.warmup)


def _training_batches(x, batch_size, seed):
    generator = np.random.default_rng(seed)
    while True:
        rows = generator.permutation(len(x))
        for begin in range(0, len(x) - batch_size + 1, batch_size):
            yield (x[rows[begin : begin + batch_size]],)


class _Clock(keras.callbacks.Callback):
    """Measures the steps after the first, which compiles."""

    def __init__(self, advance):
        super().__init__()
        self.advance = advance
        self.begin: Any = None
        self.end: Any = None

    def on_train_batch_end(self, batch, logs=None):
        if self.begin is None:
            self.begin = time.perf_counter()
        self.advance()

    def on_train_end(self, logs=None):
        self.end = time.perf_counter()

    def seconds(self, steps):
        if steps < 2:
            return None
        return (self.end - self.begin) / (steps - 1)


def _diverge(classifier, x, targets, task, advance):
    """Maximises KL(targets || network(x')), the inner objective of RSLAD.

    Returns the images found, and the seconds for `task.batch_size` of them.
    """
    attack = task.attack
    attack._check_usable()
    contents = [type(attack), attack._contents()]
    program = classifier.program(
        ("divergence", type(attack), digest(contents, in_process=True)),
        lambda logits, x, target, noise: attack.maximize(
            objectives.divergence_from(target, logits), x, noise=noise
        ),
    )

    def search(some, size):
        noise = _start(attack, x[some], task.seed, task.rows[some], size)
        images, target = (
            backend.to_devices(pad(array[some], size)) for array in (x, targets)
        )
        return backend.to_host(program(images, target, noise))[: len(some)]

    x_adv, seconds = x.copy(), 0.0
    cut = batches(np.arange(len(x)), task.batch_size)
    for size in {size for _, size in cut}:
        search(cut[0][0][:size], size)  # Compiles.
    for some, size in cut:
        begin = time.perf_counter()
        x_adv[some] = search(some, size)
        seconds += time.perf_counter() - begin
        advance()
    return x_adv, seconds * task.batch_size / len(x)


def _start(attack, x, seed, rows, size):
    """Returns the starts of a search, of shape `(restarts, size, ...)`."""
    starts = []
    for restart in range(attack.restarts):
        rng = HostRNG([seed, restart], rows)
        start = attack.start_noise(x.shape, rng, restart)
        if start is None:
            return None
        starts.append(pad(ops.convert_to_numpy(start).astype("float32"), size))
    return backend.to_devices(np.stack(starts))


def _survived(name, classifier, x, y, clean, task, advance):
    """Returns at how many radii the teacher is correct, per image.

    Images at which the attack meets NaN count as incorrect: nothing says that
    the teacher is robust there.
    """
    lost: set[int] = set()

    def run(attack, rows):
        outcome = attack._run(
            classifier,
            x[rows],
            y[rows],
            rows=task.rows[rows],
            seed=task.seed,
            batch_size=task.batch_size,
        )
        lost.update(rows[outcome.lost])
        return dataclasses.replace(
            outcome, fooled=outcome.fooled | outcome.lost
        )

    survived = np.zeros(len(x), int)
    for robust in robust_images(run, clean, task.threat_model, task.epsilons):
        survived += robust
        advance()
    if lost:
        warnings.warn(
            f"The attack on the teacher {name!r} met NaN in the logits, the "
            f"loss or the gradient at {len(lost)} of {len(x)} images. They "
            "count as not robust.",
            stacklevel=2,
        )
    return survived
