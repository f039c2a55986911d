"""Reasons not to believe a robust accuracy, each found by a measurement.

Each function returns a message, or `None` where nothing is wrong. They follow
the checks of AutoAttack (`checks.py` of the authors' code) and go further.
"""

import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad.attacks import PGD
from keras_adaad.attacks.digest import digest
from keras_adaad.evaluation.curve import default_epsilons
from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.losses import dlr_from_logits

# Images that a check looks at, where it need not see all.
SAMPLE = 200


def epsilon_of_another_range(epsilon, norm, input_range, dimensions):
    """The radius is too small, or too large, for the units of the images."""
    low, high = input_range
    if 0.0 < epsilon < 0.5 * (high - low) / 255:
        return (
            f"epsilon {epsilon:g} is less than half a step of 8-bit images in "
            f"[{low:g}, {high:g}]: is it in the units of the images?"
        )
    if epsilon >= default_epsilons(epsilon, norm, input_range, dimensions)[-1]:
        return (
            f"epsilon {epsilon:g} reaches half across the input range "
            f"[{low:g}, {high:g}], so every image can be made gray: is it in "
            "the units of the images?"
        )


def probabilities(logits):
    """The outputs are probabilities, which hide the gradient if saturated."""
    sums_to_one = np.allclose(logits.sum(-1), 1.0, atol=1e-5)
    if sums_to_one and logits.min() > -1e-5 and logits.max() < 1.0 + 1e-5:
        return (
            "the outputs are probabilities; attacks need logits, and where "
            "the softmax saturates there is no gradient to follow"
        )


def randomness(classifier, x, y, batch_size):
    """Five forward passes on the same images differ."""
    x, y = x[:batch_size], y[:batch_size]
    passes = [classifier.predict(x, batch_size) for _ in range(5)]
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


def batch_dependence(classifier, x, batch_size):
    """The logits of an image depend on the images beside it."""
    size = min(batch_size, len(x))
    if size < 2:
        return None
    together = classifier.predict(x[:size], size)
    largest = 0.0
    for k in (0, size // 2, size - 1):
        alone = classifier.predict(np.repeat(x[k : k + 1], size, axis=0), size)
        scale = 1.0 + np.abs(together[k]).max()
        largest = max(largest, np.abs(alone[0] - together[k]).max() / scale)
    if largest > 1e-4:
        return (
            "the logits of an image change with the other images of its batch "
            f"(by {largest:.2g} of their size): BatchNorm in training mode? "
            "Call it with `training=False`"
        )


def gradients(classifier, x, y, stages=()):
    """The gradient at the clean images is zero, vanishes, or is NaN."""
    losses = {"cross-entropy": cross_entropy_from_logits}
    if classifier.num_classes >= 3:
        losses["DLR"] = dlr_from_logits
    # A loss of the user's own may have none at all.
    own = {s.name: s.attack.loss for s in stages if callable(s.attack.loss)}
    losses.update({f"the loss of {name}": own[name] for name in own})
    x, y = x[:SAMPLE], y[:SAMPLE]
    weak = []
    for name, loss in losses.items():

        def sizes(logits, x, y, loss=loss):
            _, _, gradient = backend.value_and_input_gradient(
                lambda x: (loss(y, logits(x)), ()), x
            )
            return ops.sum(
                ops.abs(gradient), axis=tuple(range(1, len(x.shape)))
            )

        key = ("gradients", digest(loss, in_process=True))
        program = classifier.program(key, sizes)
        found = ops.convert_to_numpy(
            program(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
        )
        # NaN is no gradient either.
        found = np.nan_to_num(found, nan=0.0, posinf=0.0)
        share = (found <= 1e-10 * np.median(found)).mean()
        if share > 0.0:
            weak.append(f"{100 * share:.0f} % of the images for {name}")
    if weak:
        return (
            "the input gradient is zero, vanishes or is NaN at "
            f"{', '.join(weak)}: very large logits, a quantised input or a "
            "saturated output hide it. Look at the attacks that need none "
            "(Square), and at others"
        )


def reduced_precision(model):
    """Some layer computes in less than float32."""
    low = sorted(_compute_dtypes(model) & {"float16", "bfloat16"})
    if low:
        return (
            f"the model computes in {', '.join(low)}: rounding can hide small "
            "gradients. Evaluate a float32 copy as well"
        )


def black_box(results):
    """Square fooled what the attacks with gradients before it did not."""
    for before, result in zip(results, results[1:], strict=False):
        if result.parameters["attack"] != "Square" or not result.complete:
            continue
        gain = before.robust.mean() - result.robust.mean()
        if gain > 0.002:
            return (
                f"Square, which uses no gradient, fooled {100 * gain:.1f} "
                "points more than all attacks before it: those do not find "
                "what is there, and a stronger attack may find more"
            )


def lost_points(results):
    """An attack met NaN, or left the ball, where it did not fool the model."""
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


def not_converged(stages, results, classifier, x, y, **options):
    """Twice the steps of PGD fool more images."""
    pairs = zip(stages, results, strict=True)
    pairs = [pair for pair in pairs if type(pair[0].attack) is PGD]
    if not pairs:
        return None
    stage, result = pairs[-1]
    left = np.flatnonzero(result.robust)[:SAMPLE]
    if len(left) == 0:
        return None
    config = stage.attack.get_config()
    config["steps"] = 2 * config["steps"]
    config["loss"] = stage.attack.loss
    longer = PGD(**{**config, "input_range": stage.attack.input_range})
    outcome = longer._run(classifier, x[left], y[left], rows=left, **options)
    drop = outcome.fooled.mean() * result.robust.mean()
    if drop > 0.01:
        return (
            f"{stage.name} has not converged: twice its steps lower its "
            f"accuracy by {100 * drop:.1f} points more ({len(left)} images)"
        )


def large_epsilon(curve):
    """Accuracy survives an epsilon at which any image can be any other."""
    epsilon, accuracy = curve["epsilons"][-1], curve["accuracy"][-1]
    if accuracy > 0.05:
        return (
            f"at epsilon {epsilon:g}, which reaches half across the input "
            f"range, {curve['attack']} still leaves an accuracy of "
            f"{100 * accuracy:.1f} %, not about 0: the attack is misled"
        )


def _compute_dtypes(layer):
    dtypes = {layer.compute_dtype}
    for inner in getattr(layer, "layers", []):
        dtypes |= _compute_dtypes(inner)
    return dtypes
