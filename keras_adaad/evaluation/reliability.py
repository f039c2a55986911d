"""Checks that measure reasons to doubt a robust accuracy.

Each check returns a message, or `None` if nothing is wrong. They extend the
checks of AutoAttack (`checks.py` of the authors' code).
"""

import itertools
from typing import Any

import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad.attacks import PGD
from keras_adaad.attacks.norms import NORMS
from keras_adaad.attacks.norms import half_across
from keras_adaad.attacks.norms import radius_of_another_range
from keras_adaad.checks.models import are_probabilities
from keras_adaad.evaluation.curve import accuracy_over_epsilon
from keras_adaad.evaluation.curve import sampled
from keras_adaad.frozen.classifier import batches
from keras_adaad.frozen.classifier import pad
from keras_adaad.frozen.digest import digest
from keras_adaad.frozen.fingerprint import layers_within
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.losses import dlr_from_logits

# With fewer images whose loss rises, chance decides how much.
MEASURABLE = 8
# Of a function. With fewer, Square has hardly begun.
QUERIES = 1000


def before_attacks(task):
    """Returns the flags before any attack, a dict of messages or `None`."""
    flags = {}
    if not task.is_function:
        flags["network"] = task.classifier.network.difference
    flags["epsilon"] = epsilon_of_another_range(
        task.threat_model, task.x[0].size
    )
    if not task.reliability_checks:
        return flags
    flags["probabilities"] = probabilities(task.logits)
    flags["fewer_classes"] = task.missing and (
        f"too few classes for the full protocol: {task.missing}"
    )
    flags["randomness"] = randomness(task)
    if not flags["randomness"]:
        flags["batch_dependence"] = batch_dependence(task)
    if not task.is_function:
        flags["reduced_precision"] = reduced_precision(task.model)
        flags["gradients"] = gradients(task)
    return flags


def after_attacks(task, findings, curve):
    """Returns the flags of a result, a dict of messages or `None`."""
    results = findings.results
    flags = {"lost_points": lost_points(results)}
    if not task.reliability_checks:
        return flags
    flags["unstable"] = unstable(task, findings)
    flags["black_box"] = black_box(results)
    if task.is_function:
        flags["weak_attacks"] = _few_queries(results)
    if task.is_function or not findings.in_time:
        return flags
    # A curve that the user chose may not reach as far.
    if task.curve is not True:
        largest = task.threat_model.half_range(task.x[0].size)
        rows = sampled(np.arange(len(task.x)))
        curve = accuracy_over_epsilon(task, [largest], rows)
    flags["large_epsilon"] = curve and large_epsilon(curve)
    flags["weak_attacks"] = weak_attacks(task, results)
    return flags


def epsilon_of_another_range(threat_model, dimensions):
    """Flags a radius too small, or too large, for the units of the images."""
    epsilon, input_range = threat_model.epsilon, threat_model.input_range
    if epsilon == 0.0:
        return "epsilon is 0: no image was changed"
    suspect = radius_of_another_range(epsilon, threat_model.norm, input_range)
    if suspect or epsilon < threat_model.half_range(dimensions):
        return suspect
    return half_across(epsilon, input_range)


def probabilities(logits):
    """Flags outputs that are probabilities: saturated, they hide gradients."""
    if are_probabilities(logits):
        return (
            "the outputs are probabilities; attacks need logits, and where "
            "the softmax saturates there is no gradient to follow"
        )


def randomness(task):
    """Flags a model whose logits differ between five forward passes."""
    size = task.batch_size
    rows = sampled(np.arange(len(task.x)), size)
    x, y = task.x[rows], task.y[rows]
    passes = [task.classifier.predict(x, size) for _ in range(5)]
    right = {int((logits.argmax(-1) == y).sum()) for logits in passes}
    unit = [
        logits / (np.linalg.norm(logits, axis=-1, keepdims=True) + 1e-10)
        for logits in passes
    ]
    spread = max(
        np.linalg.norm(a - b, axis=-1).max() for a in unit for b in unit
    )
    if len(right) > 1 or spread > 1e-4:
        return (
            "the model is random in itself (a dropout left on, noise): the "
            f"logits of five forward passes differ by {spread:.2g}. Use "
            '`attacks=["autoattack-rand"]`, which averages gradients'
        )


def batch_dependence(task):
    """Flags logits that depend on the other images of the batch."""
    classifier, size = task.classifier, task.batch_size
    if size < 2:
        return None
    x = task.x[sampled(np.arange(len(task.x)), size)]
    together = classifier.predict(x, size)
    largest = 0.0
    for k in (0, len(x) // 2, len(x) - 1):
        alone = classifier.predict(np.repeat(x[k : k + 1], size, axis=0), size)
        scale = 1.0 + np.abs(together[k]).max()
        largest = max(largest, np.abs(alone[0] - together[k]).max() / scale)
    if largest > 1e-4:
        return (
            "the logits of an image change with the other images of its batch "
            f"(by {largest:.2g} of their size): BatchNorm in training mode? "
            "Call it with `training=False`"
        )


def gradients(task):
    """Flags a gradient at clean images that is zero, NaN, or misleads.

    It misleads if a small step along it does not raise the cross-entropy nearly
    as much as the gradient says.
    """
    right = sampled(np.flatnonzero(task.clean))
    if len(right) == 0:
        return None
    losses: dict[str, Any] = {"cross-entropy": cross_entropy_from_logits}
    if task.classifier.num_classes >= 3:
        losses["DLR"] = dlr_from_logits
    # A loss that the user wrote may have no gradient at all.
    for stage in task.stages:
        if callable(stage.attack.loss):
            losses[f"the loss of {stage.name}"] = stage.attack.loss
    weak = []
    for name, loss in losses.items():
        key = digest(loss, in_process=True)
        size = _on_images(task, right, key, _gradient_size(loss))
        share = (size <= 1e-10 * np.median(size)).mean()
        if share > 0.0:
            weak.append(f"{100 * share:.0f} % of the images for {name}")
    if weak:
        return (
            "the input gradient is zero, vanishes or is NaN at "
            f"{', '.join(weak)}: very large logits, a quantised input or a "
            "saturated output hide it. Look at the attacks that need none "
            "(Square), and at others"
        )
    rises = _rises(task.threat_model)
    key = digest(task.threat_model, in_process=True)
    expected, rise = _on_images(task, right, key, rises).T
    measurable = expected > 1e-3  # Smaller rises are lost in rounding.
    if measurable.sum() < MEASURABLE:
        return None
    share = np.median(rise[measurable] / expected[measurable])
    if share < 0.1:
        return (
            "a step of a tenth of epsilon along the gradient raises the "
            f"cross-entropy by {100 * share:.0f} % of what the gradient says: "
            "it misleads the attacks that follow it. Look at those that need "
            "none (Square), and attack the model without its defence"
        )


def _gradient_size(loss):
    """Returns a function that yields the size of each input gradient."""

    def size(logits, x, y):
        _, _, gradient = backend.value_and_input_gradient(
            lambda x: (loss(y, logits(x)), ()), x
        )
        return ops.sum(ops.abs(gradient), axis=tuple(range(1, len(x.shape))))

    return size


def _rises(threat_model):
    """Returns a function that yields two rises of each cross-entropy.

    Both are those of a small step along the gradient: what the gradient says,
    and what the step yields.
    """
    low, high = threat_model.input_range
    norm, step = NORMS[threat_model.norm], 0.1 * threat_model.epsilon

    def rises(logits, x, y):
        value, _, gradient = backend.value_and_input_gradient(
            lambda x: (cross_entropy_from_logits(y, logits(x)), ()), x
        )
        moved = ops.clip(x + step * norm.direction(gradient), low, high)
        axes = tuple(range(1, len(x.shape)))
        expected = ops.sum(gradient * (moved - x), axis=axes)
        rise = cross_entropy_from_logits(y, logits(moved)) - value
        return ops.stack([expected, rise], axis=-1)

    return rises


def _on_images(task, indices, key, function):
    """Returns `function(logits, x, y)` on images of a task; NaN becomes 0."""
    program = task.classifier.program(("gradients", key), function)
    found = []
    for rows, size in batches(indices, task.batch_size):
        values = program(
            backend.to_devices(pad(task.x[rows], size)),
            backend.to_devices(pad(task.y[rows], size)),
        )
        found.append(backend.to_host(values)[: len(rows)])
    return np.nan_to_num(np.concatenate(found), nan=0.0, posinf=0.0, neginf=0.0)


def reduced_precision(model):
    """Flags a model with layers that compute in less than float32."""
    dtypes = {layer.compute_dtype for layer in layers_within(model)}
    low = sorted(dtypes & {"float16", "bfloat16"})
    if low:
        return (
            f"the model computes in {', '.join(low)}: rounding can hide small "
            "gradients. Evaluate a float32 copy as well"
        )


def black_box(results):
    """Flags images that only Square fooled, after attacks with gradients."""
    for before, result in itertools.pairwise(results):
        if result.parameters["attack"] != "Square" or not result.complete:
            continue
        images = len(result.robust)
        fooled = before.robust.sum() - result.robust.sum()
        if fooled > 0.002 * images:
            return (
                f"Square, which uses no gradient, fooled "
                f"{100 * fooled / images:.1f} "
                "points more than all attacks before it: those do not find "
                "what is there, and a stronger attack may find more"
            )


def lost_points(results):
    """Flags attacks that met NaN or left the ball without fooling the model."""
    lost = {result.name: result.lost for result in results if result.lost}
    if lost:
        where = "; ".join(
            f"{name}: {len(places)}, at {', '.join(map(str, places[:5]))}"
            + (", ..." if len(places) > 5 else "")
            for name, places in lost.items()
        )
        return (
            "at some images an attack met NaN, in the logits, the loss or the "
            "gradient, or its point was outside of the ball or the range. They "
            f"count as not fooled by it ({where}). Evaluate a float32 copy, or "
            "mend the attack"
        )


def unstable(task, findings):
    """Flags points whose class changes when they are classified again."""
    robust = findings.results[-1].robust
    right = findings.logits.argmax(-1) == task.y
    changed = (right != robust).sum()
    if changed:
        return (
            f"{changed} verdicts changed when the points found were classified "
            "again: the model is random, or decides by rounding"
        )


def weak_attacks(task, results):
    """Flags attacks after which a plain PGD fools more images.

    It takes at least 20 steps, and twice as many as any PGD before it.
    """
    if not results or not results[-1].robust.any():
        return None
    left = sampled(np.flatnonzero(results[-1].robust))
    attacks = [stage.attack for stage in task.stages]
    taken = [attack.steps for attack in attacks if type(attack) is PGD]
    threat_model = task.threat_model
    attack = PGD(
        epsilon=threat_model.epsilon,
        steps=max([20, *(2 * steps for steps in taken)]),
        norm=threat_model.norm,
        input_range=threat_model.input_range,
    )
    outcome = task.run(attack, left)
    drop = outcome.fooled.mean() * results[-1].robust.mean()
    if drop > 0.01:
        return (
            f"PGD with {attack.steps} steps of epsilon / 4, after all attacks, "
            f"lowers the accuracy by {100 * drop:.1f} points more "
            f"({len(left)} images): the attacks are too weak"
        )


def _few_queries(results):
    """Returns why a function may be less robust than found, or `None`."""
    queries = [result.parameters.get("queries") for result in results]
    if not queries or None in queries:  # None, or an attack of one's own.
        return None
    if max(queries) < QUERIES and results[-1].robust.any():
        return (
            f"no attack made more than {max(queries)} queries, and published "
            "results make 5,000: the attacks are too weak"
        )


def large_epsilon(curve):
    """Flags accuracy at an epsilon at which any image can be made gray."""
    epsilon, accuracy = curve["epsilons"][-1], curve["accuracy"][-1]
    if accuracy > 0.05:
        return (
            f"at epsilon {epsilon:g}, which reaches half across the input "
            f"range, {curve['attack']} still leaves an accuracy of "
            f"{100 * accuracy:.1f} %, not about 0: the attack is misled"
        )
