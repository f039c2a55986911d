"""Runs an attack on arrays, round by round, on the images not yet fooled."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad.attacks.randomness import HostRNG
from keras_adaad.frozen.classifier import batches
from keras_adaad.frozen.classifier import pad
from keras_adaad.frozen.function import NotFiniteError


@dataclasses.dataclass
class Outcome:
    """The result of an attack: the best point for each image.

    `lost` is true where the search met NaN, in the logits, the loss or the
    gradient, and did not fool the model. For a minimum-norm attack, `distance`
    is the size of the smallest perturbation found, even beyond epsilon.
    """

    x_adv: np.ndarray
    fooled: np.ndarray
    complete: bool = True
    lost: Any = None
    distance: Any = None

    def __post_init__(self):
        if self.lost is None:
            self.lost = np.zeros(len(self.fooled), bool)


def search(
    attack,
    classifier,
    x,
    y,
    *,
    seed,
    rows=None,
    noise=None,
    batch_size=256,
    stop=None,
):
    """Runs all rounds of an attack, each on the images not yet fooled.

    A minimum-norm attack runs each round on all images, because another target
    or start may give a smaller perturbation. If no point fools the model, the
    one with the highest loss is kept.

    `rows` are the indices of the images in the data set, for `HostRNG`.
    `noise` replaces the random starts and has the shape `(starts, *x.shape)`.
    `stop` is called after every step with the number of images that the step
    moved. It ends the search by returning `True`.
    """
    rows = np.arange(len(x)) if rows is None else rows
    targets = attack._target_classes(classifier, x, batch_size)
    outcome = Outcome(x.copy(), np.zeros(len(x), bool))
    if attack.minimum_norm:
        outcome.distance = np.full(len(x), np.inf)
    best = np.full(len(x), -np.inf, "float32")
    x_last = x.copy()
    for round_ in range(attack._rounds(classifier.num_classes)):
        left = np.flatnonzero(~outcome.fooled | attack.minimum_norm)
        for some, size in batches(left, batch_size):
            rng = HostRNG([seed, round_], rows[some])
            given = None if noise is None else noise[:, some]
            start = attack._start(x[some], x_last[some], rng, round_, given)
            target = None if targets is None else targets[round_, some]
            data = {"x": x[some], "y": y[some], "target": target}
            data = _to_device({**data, "noise": start}, size)
            settings = attack.settings(x.shape[1:], seed, round_)
            try:
                found = _run(
                    attack, classifier, data, settings, len(some), stop
                )
            except NotFiniteError as error:
                raise error.of(rows[some]) from None
            if found is None:
                outcome.complete = False
                return outcome
            x_new, values, fooled, lost, *distances = (
                a[: len(some)] for a in found
            )
            before = outcome.fooled[some]
            fooled = fooled & ~lost
            better = fooled | (~before & ~lost & (values > best[some]))
            for distance in distances:
                distance = np.where(lost, np.inf, distance)
                better &= ~before | (distance < outcome.distance[some])
                outcome.distance[some] = np.minimum(
                    outcome.distance[some], distance
                )
            x_last[some[~lost]] = x_new[~lost]
            fooled |= before
            outcome.x_adv[some[better]] = x_new[better]
            outcome.fooled[some] = fooled
            outcome.lost[some] = (outcome.lost[some] | lost) & ~fooled
            best[some[better]] = values[better]
    return outcome


def _to_device(data, size):
    def convert(array):
        if array is None:
            return None
        return backend.to_devices(pad(array, size))

    return keras.tree.map_structure(convert, data)


def _run(attack, classifier, data, settings, images, stop):
    """Returns the outputs of `finish` as arrays; `None` if stopped."""
    begin, step, finish = _programs(attack, classifier)
    state, setting = None, None
    for setting in settings:
        if state is None:
            state = begin(data, setting)
        state = step(data, state, setting)
        if stop is not None and stop(images):
            return None
    return [backend.to_host(a) for a in finish(data, state, setting)]


def _programs(attack, classifier):
    """Returns the three parts of an attack, compiled."""
    attack._check_usable()
    key, attack = attack._program_key(), attack._compiled_part()

    def begin(logits, data, setting):
        objective = attack._objective(logits, data["y"], data["target"])
        return attack.begin(objective, data["x"], data["noise"], setting)

    def step(logits, data, state, setting):
        objective = attack._objective(logits, data["y"], data["target"])
        return attack.step(objective, data["x"], state, setting)

    def finish(logits, data, state, setting):
        objective = attack._objective(logits, data["y"], data["target"])
        x_adv = attack.result(data["x"], state, setting)
        values, fooled = objective(x_adv)
        if len(values.shape) == 2:
            values = ops.max(values, axis=-1)
        lost = ops.isnan(values)
        for part in keras.tree.flatten([x_adv, state]):
            if _is_of_images(part, x_adv):
                axes = tuple(range(1, len(part.shape)))
                lost = ops.logical_or(lost, ops.any(ops.isnan(part), axis=axes))
        distance = [state["distance"]] if attack.minimum_norm else []
        return x_adv, values, fooled, lost, *distance

    return [
        classifier.program((key, part.__name__), part)
        for part in (begin, step, finish)
    ]


def _is_of_images(part, x):
    """Returns whether a part of a state holds floats for each image."""
    if not ops.is_tensor(part):
        return False
    is_float = "float" in keras.backend.standardize_dtype(part.dtype)
    return is_float and len(part.shape) > 0 and part.shape[0] == x.shape[0]


def runner_up_classes(attack, classifier, x, batch_size):
    """Returns the target classes, an array of shape `(rounds, num_images)`.

    All restarts first target the second most likely class on the clean image,
    then the third, and so on.
    """
    ranking = np.argsort(-classifier.predict(x, batch_size), axis=-1)
    targets = ranking.T[1 : attack.targets + 1].astype("int32")
    return np.repeat(targets, attack.restarts, axis=0)
