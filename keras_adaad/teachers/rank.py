"""The ranking of teachers for one student."""

import dataclasses
import time
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np

from keras_adaad import checks
from keras_adaad._typing import ArrayLike
from keras_adaad._typing import PathLike
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.attacks.attack import check_attackable
from keras_adaad.evaluation.evaluate import environment
from keras_adaad.evaluation.state import RESULTS_SINCE
from keras_adaad.frozen.digest import digest
from keras_adaad.methods import RSLAD
from keras_adaad.teachers.candidates import candidates_of
from keras_adaad.teachers.candidates import check_candidates
from keras_adaad.teachers.candidates import logits_of
from keras_adaad.teachers.measure import Task
from keras_adaad.teachers.measure import measure
from keras_adaad.teachers.ranking import TeacherRanking
from keras_adaad.teachers.state import State
from keras_adaad.teachers.unchanged import seeded
from keras_adaad.training.attack_arguments import check_start
from keras_adaad.training.attack_arguments import training_attack

# With fewer, the 95 % interval of a share is wider than 28 points.
MIN_IMAGES = 50


def rank_teachers(
    teachers: Sequence[keras.Model | PathLike]
    | Mapping[str, keras.Model | PathLike | None],
    student: keras.Model,
    x: ArrayLike,
    y: ArrayLike | None = None,
    attack: ObjectiveAttack | None = None,
    *,
    warmup: int = 200,
    num_images: int = 500,
    batch_size: int = 128,
    seed: int = 0,
    state_path: PathLike | None = None,
    verbose: int = 1,
) -> TeacherRanking:
    """Ranks robust teachers by how well they suit a student, before training.

    The most robust teacher is often not the best one. A sample is
    *transferable* if the attack on the student changes the output of the
    teacher `T` as the attack on the teacher itself would:

        KL(T(x_S) || T(x)) >= KL(T(x_S) || T(x_T))

    `x_S` maximises `KL(T(x) || S(x'))`, where `S` is the student. `x_T`
    maximises `KL(T(x) || T(x'))`. A sample counts only if `x_T` changes the
    teacher's output: `KL(T(x) || T(x_T))` must be at least 1e-6 nats. Otherwise
    a teacher with constant outputs would rank first.

    Lee and Chung trained a ResNet-18 with AdaAD and each of 15 published
    teachers. The student's accuracy under AutoAttack had a rank correlation of
    0.98 with the share of transferable samples. Its rank correlation with the
    teacher's own accuracy under AutoAttack was -0.45. The share decides the
    order of the ranking, and the entropy decides between equal shares.

    All of these teachers were strong. With eight small ones, trained for
    minutes, the correlations were 0.55 and 0.73 (`benchmarks.teachers`). So
    look at the accuracies and the radius of a teacher too.

    For each teacher, a copy of the student is trained by RSLAD for `warmup`
    steps of Adam with a learning rate of 0.001. The ranking also has the
    entropy of the teacher on `x_S`, its accuracy under PGD-20 as epsilon grows,
    its size, and the seconds of a training step. The student and the teachers
    do not change.

    Args:
        teachers: List of at least two `keras.Model`s, paths of `.keras` files,
            or names of published models (see `keras_adaad.zoo`) whose files are
            in the cache. Or a dict from names to models or files. A `.keras`
            file holds a model. Any other file is the checkpoint of the
            published model with that name. Files are loaded one at a time.
        student: The `keras.Model` to be trained later: built, for the same
            images and classes.
        x: Training images, of shape `(num_images, ...)`, within the attack's
            `input_range`, at least 50. The warm-up uses all of them.
        y: Their labels: class indices or one-hot. Without labels, the classes
            that the teacher predicts for the clean images count as correct, and
            there are no accuracies. Defaults to `None`.
        attack: The attack of the training, a `keras_adaad.attacks.PGD` or
            another `ObjectiveAttack`. Defaults to that of RSLAD and AdaAD:
            10 steps with epsilon 8/255.
        warmup: Number of training steps of the student's copy. Use 0 for a
            student that is trained already. Defaults to `200`.
        num_images: Number of images to measure, at most. They are drawn at
            random. Defaults to `500`.
        batch_size: Images per training step and per compiled call.
            Defaults to `128`.
        seed: Integer seed of the images that are drawn, the warm-up and the
            attacks. Defaults to `0`.
        state_path: File that keeps the results; a killed call resumes from it.
            It belongs to one student with its weights, images, attack and
            settings; teachers may be added. Seconds measured on another device
            are left out. Defaults to `None`.
        verbose: `1` for a progress bar per teacher, `2` for lines, `0` for
            silence. Defaults to `1`.

    Returns:
        A `keras_adaad.teachers.TeacherRanking`, the best teacher first.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there are fewer than two teachers or fewer than 50
            images, the attack starts at the image, a network returns
            probabilities, the classes differ, or data and labels are invalid.
            These are raised before any teacher is measured.

    Example:

    ```python
    ranking = keras_adaad.rank_teachers(
        {
            "Chen2021LTD_WRN34_10": "Chen2021LTD_WRN34_10.pt",
            "Gowal2020Uncovering_70_16": "Gowal2020Uncovering_70_16.pt",
            "mine": "my_teacher.keras",
        },
        student,
        x_train,
        y_train,
        state_path="teachers.json",
    )
    print(ranking)
    ranking.plot("teachers.png")
    ```

    Reference:
        - Lee and Chung, "Sample-wise Adaptive Weighting for Transfer
          Consistency in Adversarial Distillation",
          [2025](https://arxiv.org/abs/2512.10275).
    """
    begin = time.monotonic()
    task = _task(student, x, y, attack, warmup, num_images, batch_size, seed)
    candidates = candidates_of(teachers, task.num_classes, task.attack.norm)
    facts = environment(student)
    logits = logits_of("student", student, task.x)
    state = State(state_path, _identity(task, student), logits, facts["device"])
    with seeded(task.seed):  # A file that is loaded draws first weights.
        check_candidates(candidates, student, task.x)
        results = [
            _result(candidate, student, task, state, verbose)
            for candidate in candidates
        ]
    return TeacherRanking(
        results=results,
        student_name=student.name,
        threat_model=task.threat_model,
        epsilons=task.epsilons,
        passes=_passes(task),
        num_classes=task.num_classes,
        has_labels=task.y is not None,
        warmup=task.warmup,
        batch_size=task.batch_size,
        seed=task.seed,
        environment=facts,
        seconds=time.monotonic() - begin,
    )


def _task(student, x, y, attack, warmup, num_images, batch_size, seed):
    """Returns the `Task` of the arguments, or raises."""
    attack = training_attack(attack, None, RSLAD.published_attack)
    checks.check_number("attack.epsilon", attack.epsilon, open_minimum=True)
    # Each teacher is driven away from its own outputs.
    check_start("Argument `attack`", attack)
    warmup = checks.check_integer("warmup", warmup, minimum=0)
    num_images = checks.check_integer("num_images", num_images, MIN_IMAGES)
    batch_size = checks.check_integer("batch_size", batch_size)
    seed = checks.check_integer("seed", seed, minimum=0)
    x, y, num_classes = _check_data(student, x, y, attack)
    rows = np.random.default_rng(seed).permutation(len(x))[:num_images]
    rows.sort()
    return Task(
        x=x,
        rows=rows,
        y=None if y is None else y[rows],
        num_classes=num_classes,
        attack=attack,
        warmup=warmup,
        batch_size=min(batch_size, len(rows)),
        seed=seed,
    )


def _check_data(student, x, y, attack):
    """Returns images, class indices or `None`, and the number of classes."""
    checks.check_model("student", student)
    if not student.built:
        raise ValueError(
            "Argument `student` must be built: call it once on a batch of "
            f"images. Received: {student.name!r}, which has no weights yet"
        )
    if y is None:
        x = checks.check_images("x", x, attack.input_range).astype("float32")
        outputs = checks.output_shape(student, (1, *x.shape[1:]))
        checks.check_classifier("student", outputs)
        num_classes = outputs[-1]
    else:
        x, y, num_classes = check_attackable(student, x, y, attack.input_range)
    if len(x) < MIN_IMAGES:
        raise ValueError(
            f"Argument `x` must hold at least {MIN_IMAGES} images: with fewer, "
            "chance decides the order. A few hundred are usual. "
            f"Received: {len(x)} images"
        )
    return x, y, num_classes


def _identity(task, student):
    """Returns what a ranking depends on besides the teachers."""
    attack = (type(task.attack), task.attack._contents())
    settings = (task.warmup, task.batch_size, task.seed)
    backend = keras.backend.backend()
    data = (digest(student), task.x, task.rows, task.y)
    return [*data, *attack, *settings, backend, RESULTS_SINCE]


def _passes(task):
    """Returns a teacher's passes per image in a training step, by method."""
    steps = sum(1 for _ in task.attack.settings(task.x.shape[1:], task.seed))
    return {"RSLAD": 2, "AdaAD": 1 + 2 * task.attack.restarts * steps}


def _result(candidate, student, task, state, verbose):
    """Returns the result of a teacher, measured or from the state."""
    found = state.get(candidate.identity, candidate.logits)
    if found is None:
        if verbose:
            print(f"{candidate.name}:", flush=True)
        bar = None
        if verbose == 1:
            bar = keras.utils.Progbar(task.work, unit_name="part")
        found = measure(
            candidate.name,
            candidate.load(),
            student,
            task,
            lambda: bar and bar.add(1),
        )
        state.add(candidate.identity, candidate.logits, found)
        if verbose == 2:
            share = 100 * found.transfers.mean()
            print(f"{share:.1f} % transferable", flush=True)
    # The state may know it by another name.
    return dataclasses.replace(found, name=candidate.name)
