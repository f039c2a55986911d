"""Adversarial images from elsewhere, verified and added to a report."""

import dataclasses
import logging
import time

import numpy as np

from keras_adaad.attacks.attack import check_attackable
from keras_adaad.attacks.attack import check_function_attacks
from keras_adaad.attacks.autoattack import VERSIONS
from keras_adaad.checks.data import check_images
from keras_adaad.checks.data import to_numpy
from keras_adaad.evaluation.attack_result import AttackResult
from keras_adaad.evaluation.same_task import are_other_images
from keras_adaad.evaluation.same_task import image_means
from keras_adaad.evaluation.statistics import softmax
from keras_adaad.frozen import function

LOGGER = logging.getLogger("keras_adaad")


def with_adversarial(report, model, x, x_adv, source):
    """Implements `RobustnessReport.with_adversarial`."""
    begin = time.monotonic()
    _check_source(report, source)
    x, classifier = _check_task(report, model, x)
    x_adv = check_adversarial("x_adv", x_adv, x, report.threat_model)
    inside = report.threat_model.contains(x_adv, x)
    # NaN is outside too. A function may not take it.
    x_adv = np.where(_per_image(inside, x), x_adv, x)
    logits = classifier.predict(x_adv, min(report.batch_size, len(x)))
    counts = inside & np.isfinite(logits).all(-1)
    flags = dict(report.flags)
    if not counts.all():
        flags[f"not counted: {source}"] = (
            f"{(~counts).sum()} of {len(x)} images from {source!r} do not "
            f"count: {(~inside).sum()} are outside of the ball or of the input "
            f"range, and {(inside & ~counts).sum()} have logits that are not "
            "finite. Are they in the order, the units and the precision of the "
            "clean images? Where there is no adversarial image, give the clean "
            "one"
        )
        LOGGER.warning(flags[f"not counted: {source}"])
    fooled = report.clean & counts & (logits.argmax(-1) != report.labels)
    sizes = report.threat_model.sizes(x_adv - x)
    result = AttackResult(
        name=source,
        group=None,
        parameters={"attack": "images from elsewhere", "source": source},
        attacked=int((report.clean & counts).sum()),
        seconds=time.monotonic() - begin,
        robust=report.robust & ~fooled,
        individual=report.clean & ~fooled,
        lost=np.flatnonzero(report.clean & ~counts).tolist(),
        perturbations=np.where(
            fooled, np.minimum(sizes, report.threat_model.epsilon), np.inf
        ),
        external=True,
    )
    new = report.robust & fooled
    return dataclasses.replace(
        report,
        results=[*report.results, result],
        flags=flags,
        max_perturbation=max(
            report.max_perturbation, float(sizes[new].max(initial=0.0))
        ),
        images=_images(report.images, new, x_adv, logits),
    )


def check_adversarial(name, x_adv, x, threat_model):
    """Returns float32 images, at least one of them inside, or raises."""
    x_adv = to_numpy(x_adv)
    if x_adv.shape != x.shape or x_adv.dtype.kind not in "fiu":
        raise ValueError(
            f"Argument `{name}` must hold one image of numbers for each image "
            f"that was attacked, in their order: shape {x.shape}. "
            f"Received: {name} of shape {x_adv.shape} and dtype {x_adv.dtype}"
        )
    x_adv = x_adv.astype("float32")
    if not threat_model.contains(x_adv, x).any():
        sizes = threat_model.sizes(x_adv - x)
        nearest = np.fmin.reduce(sizes, initial=np.inf)
        raise ValueError(
            f"Argument `{name}` must hold images inside the ball of the report "
            "and the input range: are they of the same images, in the same "
            "order and units? Received: no image inside "
            f"{threat_model}; the nearest is {nearest:g} from its clean image"
        )
    return x_adv


def _check_source(report, source):
    if not isinstance(source, str) or not source:
        raise TypeError(
            "Argument `source` must say where the images are from, such as "
            f'"Square of another library". Received: source={source!r}'
        )
    taken = {"clean", *(result.name for result in report.results)}
    taken |= {name for name, _ in report.stages()}
    # A protocol that did not finish is no stage of this name.
    taken |= {result.group for result in report.results}
    # Images from elsewhere must not pass for the protocol of this library.
    taken |= {f"AutoAttack ({version})" for version in VERSIONS}
    if source in taken:
        raise ValueError(
            "Argument `source` must be a name that the report does not have "
            "yet, and not that of a protocol of this library. Choose another. "
            f"Received: source={source!r}"
        )


def _check_task(report, model, x):
    """Returns the images and a classifier, or raises if they do not match."""
    check_function_attacks(model, {})
    x = check_images("x", x, report.threat_model.input_range)
    if len(x) != len(report.labels):
        raise ValueError(
            "Argument `x` must hold the images that were attacked, in their "
            "order: `x[report.indices]` of what `evaluate_robustness` got. "
            f"Received: {len(x)} images, and a report of {len(report.labels)}"
        )
    x, _, num_classes = check_attackable(
        model,
        x,
        # Those of the report may not be classes of this model.
        np.zeros(len(x), int),
        report.threat_model.input_range,
        allow_probabilities=True,
    )
    classifier = function.classifier_of(model, num_classes, report.seed, x)
    logits = classifier.predict(x, min(report.batch_size, len(x)))
    changed = (logits.argmax(-1) == report.labels) != report.clean
    # Rounding on another device may change a few.
    few = max(1, 0.01 * len(x))
    if num_classes != report.num_classes or changed.sum() > few:
        raise ValueError(
            "Arguments `model` and `x` must be those of the report. Received: "
            f"a model of {num_classes} classes that is right where the report "
            "says it is wrong, or the reverse, on "
            f"{changed.sum()} of {len(x)} clean images"
        )
    means = image_means(x, report.threat_model.input_range)
    if report.images is not None:
        _check_same_images(report, x, softmax(logits))
    elif are_other_images(means, report.image_means):
        raise ValueError(
            "Argument `x` must hold the images that were attacked, in their "
            "order: `x[report.indices]` of what `evaluate_robustness` got. "
            "Received: images whose means differ from theirs by up to "
            f"{np.abs(means - report.image_means).max():.3g} of the input range"
        )
    return x, classifier


def _check_same_images(report, x, probabilities):
    """Raises unless images and probabilities are those that the report holds.

    A report that was loaded from a file holds neither.
    """
    low, high = report.threat_model.input_range
    apart = np.abs(x - report.images["clean"]).max()
    if apart > 1e-6 * (high - low):
        raise ValueError(
            "Argument `x` must hold the images that were attacked, in their "
            "order: `x[report.indices]` of what `evaluate_robustness` got. "
            f"Received: images that differ from them by up to {apart:.3g}"
        )
    known = report.images["clean_probabilities"]
    apart = np.abs(probabilities - known).max()
    if apart > 0.05:
        raise ValueError(
            "Argument `model` must be the model of the report. Received: a "
            "model whose probabilities on the clean images differ by up to "
            f"{apart:.3g}"
        )


def _images(images, new, x_adv, logits):
    """Returns the images of the report, updated with the new ones."""
    if images is None:
        return None
    found = {"adversarial": x_adv, "adversarial_probabilities": softmax(logits)}
    return {
        **images,
        **{
            name: np.where(_per_image(new, array), array, images[name])
            for name, array in found.items()
        },
    }


def _per_image(flags, array):
    return flags.reshape(-1, *[1] * (array.ndim - 1))
