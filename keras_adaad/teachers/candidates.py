"""The teachers to rank: models, files, and published models."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from keras_adaad import checks
from keras_adaad import zoo
from keras_adaad.frozen.digest import digest

DATASETS = {10: "cifar10", 100: "cifar100"}
THREAT_MODELS = {"linf": "Linf", "l2": "L2"}


@dataclasses.dataclass
class Candidate:
    """A teacher by name, and the function that loads it.

    `identity` is a digest of its layers and weights, and `logits` are its
    logits on a few images.
    """

    name: str
    load: Callable[[], keras.Model]
    identity: str = ""
    logits: np.ndarray | None = None


def candidates_of(teachers, num_classes, norm):
    """Returns the `Candidate`s of the argument `teachers`, or raises."""
    sources = _by_name(teachers)
    if len(sources) < 2:
        raise ValueError(
            "Argument `teachers` must hold at least two teachers to compare. "
            f"Received: {', '.join(sources) or 'none'}"
        )
    return [
        Candidate(name, _loader(name, source, num_classes, norm))
        for name, source in sources.items()
    ]


def check_candidates(candidates, student, x):
    """Loads each teacher once, and raises unless all suit the student."""
    for candidate in candidates:
        name = f"teachers[{candidate.name!r}]"
        try:
            teacher = candidate.load()
        except FileNotFoundError:
            raise
        except Exception as error:  # A damaged file can fail in many ways.
            raise ValueError(
                f"Argument `{name}` must be a file that holds the model. "
                f"Received: {type(error).__name__}: {error}"
            ) from error
        checks.check_model(name, teacher)
        if not teacher.built:
            raise ValueError(
                f"Argument `{name}` must be built, and trained. "
                f"Received: {teacher.name!r}, which has no weights yet"
            )
        checks.check_pair(teacher, student, name)
        candidate.logits = logits_of(name, teacher, x)
        candidate.identity = digest(teacher)


def logits_of(name, model, x):
    """Returns a model's logits for a few images, or raises."""
    logits = ops.convert_to_numpy(model(ops.convert_to_tensor(x[:8])))
    if not np.isfinite(logits).all():
        raise ValueError(
            f"Argument `{name}` must return finite logits. Received: NaN or "
            "infinite logits on clean images"
        )
    checks.check_logits(name, logits)
    return logits


def _by_name(teachers):
    if isinstance(teachers, Mapping):
        return {str(name): source for name, source in teachers.items()}
    if not isinstance(teachers, (list, tuple)):
        raise TypeError(
            "Argument `teachers` must be a list of teachers, or a dict from "
            "names to models or files. "
            f"Received: teachers of type {type(teachers).__name__}"
        )
    sources = {}
    for teacher in teachers:
        name, source = _named(teacher)
        if name in sources:
            raise ValueError(
                "Argument `teachers` holds two teachers of one name. Pass a "
                f"dict from names to teachers. Received: {name!r} twice"
            )
        sources[name] = source
    return sources


def _named(teacher):
    if isinstance(teacher, keras.Model):
        return teacher.name, teacher
    if isinstance(teacher, (str, os.PathLike)):
        if _is_keras_file(teacher):
            return pathlib.Path(teacher).stem, teacher
        return os.fspath(teacher), None
    raise _not_a_teacher(teacher)


def _loader(name, source, num_classes, norm):
    if isinstance(source, keras.Model):
        return lambda: source
    if source is not None and not isinstance(source, (str, os.PathLike)):
        raise _not_a_teacher(source)
    if source is not None and _is_keras_file(source):
        return lambda: keras.saving.load_model(source, compile=False)
    entry = published_entry(name, num_classes, norm)
    return lambda: zoo.load_robustbench(
        name, source, entry["dataset"], entry["threat_model"]
    )


def published_entry(name, num_classes, norm):
    """Returns the zoo's entry of a teacher for these classes and this norm."""
    if num_classes not in DATASETS:
        raise ValueError(
            "Argument `teachers` names a published model, and those of the zoo "
            "have the 10 or the 100 classes of CIFAR. Received: "
            f"{name!r}, and a student with {num_classes} classes"
        )
    return zoo.entry(name, DATASETS[num_classes], THREAT_MODELS[norm])


def _is_keras_file(path):
    return os.fspath(path).endswith(".keras")


def _not_a_teacher(value):
    return TypeError(
        "Argument `teachers` must hold `keras.Model`s, paths of `.keras` "
        "files, or names of published models. "
        f"Received: {value!r} (of type {type(value).__name__})"
    )
