"""How robust a model is, and whether to believe the number."""

import datetime
import importlib.metadata
import logging
import random
import time

import keras
import numpy as np

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad.attacks.attack import check_attackable
from keras_adaad.attacks.attack import check_function_attacks
from keras_adaad.evaluation import reliability
from keras_adaad.evaluation.curve import default_epsilons
from keras_adaad.evaluation.curve import robustness_curve
from keras_adaad.evaluation.report import RobustnessReport
from keras_adaad.evaluation.stages import State
from keras_adaad.evaluation.stages import identity
from keras_adaad.evaluation.stages import perturbation_sizes
from keras_adaad.evaluation.stages import plan
from keras_adaad.evaluation.stages import run_stages
from keras_adaad.frozen import function
from keras_adaad.frozen.network import tolerance
from keras_adaad.version import __version__

LOGGER = logging.getLogger("keras_adaad")


def evaluate_robustness(
    model,
    x,
    y,
    attacks=("fgsm", "pgd", "cw", "autoattack"),
    epsilon=8 / 255,
    *,
    norm="linf",
    input_range=(0.0, 1.0),
    indices=None,
    batch_size=256,
    seed=0,
    individual=False,
    reliability_checks=True,
    curve=True,
    allow_probabilities=False,
    state_path=None,
    time_budget=None,
    class_names=None,
    verbose=1,
):
    """Attacks a classifier and reports its accuracy, and whether to trust it.

    The attacks run in turn. Each starts from the clean images, and sees those
    that the model still gets right after all attacks before it.

    What is random follows from `seed`, image by image: the batch size changes
    nothing. Each attack is compiled once for a model; new weights need no new
    compilation. Images, perturbations and losses are float32 whatever the
    dtype policy of the model.

    A function in the place of the model, such as an exported file on its
    runtime, is attacked by `attacks=["square"]`. Of the checks and the curve
    what needs a gradient is left out, so compare it with the Keras model that
    it was made of.

    Args:
        model: A `keras.Model` that returns logits; or, for attacks without
            gradients, any function from float32 NumPy images to logits.
        x: Images, of shape `(num_images, ...)`, within `input_range`.
        y: Labels: class indices or one-hot.
        attacks: Names (see `keras_adaad.attacks.get`) or
            `keras_adaad.attacks.Attack`s, in the order in which they run.
        epsilon: Radius of the ball, in the units of the model's input.
            Defaults to `8 / 255`.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
        input_range: Pair `(low, high)` of the values a pixel can have.
            Defaults to `(0.0, 1.0)`.
        indices: Which images of `x` to evaluate. Defaults to all.
        batch_size: Images per compiled call. Defaults to `256`.
        seed: Integer that decides all random draws, or `None` for a new one,
            which the report holds. Defaults to `0`.
        individual: Whether each attack runs on all images, so that the report
            has its accuracy alone. Defaults to `False`.
        reliability_checks: Whether to look for reasons not to believe the
            result. Defaults to `True`.
        curve: Whether to measure the accuracy over epsilon (PGD-20 on at most
            200 images), or a list of epsilons. Defaults to `True`.
        allow_probabilities: Whether a model that returns probabilities is
            attacked as it is, and flagged, instead of refused.
            Defaults to `False`.
        state_path: File that keeps the results of each attack that is done: a
            killed evaluation resumes from it. It belongs to one evaluation,
            that is, to the model with its configuration, weights and logits,
            the images and labels, the attacks and the seed. Another one
            raises. Defaults to `None`.
        time_budget: Seconds after which the attacks end, for a quick look.
            The report says so. Defaults to `None`.
        class_names: List of names for the report.
        verbose: `1` for progress bars, `0` for silence. Defaults to `1`.

    Returns:
        A `RobustnessReport`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model returns probabilities, an attack is unknown,
            or data and labels do not fit. No attack has run by then.

    Example:

    ```python
    report = keras_adaad.evaluate_robustness(
        model, x_test, y_test, attacks=["pgd", "autoattack"], epsilon=8 / 255
    )
    print(report)
    report.save("robustness.json")
    report.plot("robustness.png")
    ```

    Reference:
        - [Croce & Hein, 2020](https://arxiv.org/abs/2003.01690)
        - [Carlini et al., 2019](https://arxiv.org/abs/1902.06705), on what to
          check and report.
    """
    begin = time.monotonic()
    threat = {
        "epsilon": checks.check_number("epsilon", epsilon),
        "norm": checks.check_choice("norm", norm, ("linf", "l2")),
        "input_range": checks.check_input_range(input_range),
    }
    batch_size = checks.check_integer("batch_size", batch_size)
    curve = _check_curve(curve)
    if time_budget is not None:
        time_budget = checks.check_number("time_budget", time_budget)
    seed = random.randrange(2**31) if seed is None else seed
    seed = checks.check_integer("seed", seed, minimum=0)
    state = State(state_path)
    is_function = not isinstance(model, keras.Model)
    if is_function:
        curve = _check_function(model, attacks, threat, curve)
    else:
        checks.check_model("model", model, allow_probabilities)
    x, y, num_classes = check_attackable(
        model, x, y, threat["input_range"], allow_probabilities
    )
    indices = _check_indices(indices, len(x))
    x, y = x[indices], y[indices]
    class_names = _check_class_names(class_names, num_classes)
    stages, missing = plan(attacks, threat, num_classes, x.shape[1:])

    batch_size = min(batch_size, len(x))
    classifier = function.classifier_of(model, num_classes, seed, x)
    logits = classifier.predict(x, batch_size)
    _check_outputs(logits, allow_probabilities)
    clean = logits.argmax(-1) == y
    found = state.begin(
        [
            # A function shows itself by its logits alone.
            None if is_function else model,
            x,
            y,
            identity(stages),
            (seed, individual, keras.backend.backend(), __version__),
        ],
        logits,
        1e-4 if is_function else tolerance(model),
        x,
    )

    flags = {"network": None if is_function else classifier.network.difference}
    if reliability_checks:
        flags["epsilon"] = reliability.epsilon_of_another_range(
            **threat, dimensions=x[0].size
        )
        flags["probabilities"] = reliability.probabilities(logits)
        flags["fewer_classes"] = missing and (
            f"too few classes for the full protocol: {missing}"
        )
        flags.update(
            _before(model, classifier, x, y, clean, batch_size, stages)
        )

    deadline = None if time_budget is None else begin + time_budget
    options = {"seed": seed, "batch_size": batch_size}
    results, x_adv = run_stages(
        stages,
        classifier,
        x,
        y,
        clean,
        state=state,
        found=found,
        individual=individual,
        deadline=deadline,
        verbose=verbose,
        **options,
    )
    adversarial_logits = classifier.predict(x_adv, batch_size)
    in_time = deadline is None or time.monotonic() < deadline
    measured = None
    if in_time and curve is not False:
        measured = _curve(classifier, x, y, clean, curve, threat, options)
    flags["lost_points"] = reliability.lost_points(results)
    if reliability_checks:
        robust = results[-1].robust
        flags["unstable"] = _unstable(adversarial_logits, y, robust)
        flags["black_box"] = reliability.black_box(results)
    if reliability_checks and in_time and not is_function:
        largest = measured
        if curve is not True:
            largest = _curve(classifier, x, y, clean, None, threat, options)
        flags["large_epsilon"] = reliability.large_epsilon(largest)
        flags["not_converged"] = reliability.not_converged(
            stages, results, classifier, x, y, **options
        )
    flags = {name: message for name, message in flags.items() if message}
    for name, message in flags.items():
        LOGGER.warning("%s: %s", name, message)
    return RobustnessReport(
        model_name=_name(model),
        labels=y,
        indices=indices,
        clean=clean,
        results=results,
        seed=seed,
        batch_size=batch_size,
        num_classes=num_classes,
        max_perturbation=float(perturbation_sizes(x_adv - x, norm).max()),
        flags=flags,
        environment=_environment(model),
        seconds=time.monotonic() - begin,
        curve=measured,
        class_names=class_names,
        images={
            "clean": x,
            "adversarial": x_adv,
            "clean_probabilities": _softmax(logits),
            "adversarial_probabilities": _softmax(adversarial_logits),
        },
        **threat,
    )


def _check_function(function, attacks, threat, curve):
    """Returns the curve to measure of what is no Keras model, or raises."""
    # With classes enough for every attack: their number is not known yet.
    stages, _ = plan(attacks, threat, num_classes=10)
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


def _name(model):
    names = (getattr(model, name, None) for name in ("name", "__name__"))
    return str(next(filter(None, names), type(model).__name__))


def _before(model, classifier, x, y, clean, batch_size, stages):
    """Returns the flags of the checks that need no attack."""
    right = np.flatnonzero(clean)
    flags = {"randomness": reliability.randomness(classifier, x, y, batch_size)}
    if not flags["randomness"]:
        flags["batch_dependence"] = reliability.batch_dependence(
            classifier, x, batch_size
        )
    if not isinstance(model, keras.Model):
        return flags
    flags["reduced_precision"] = reliability.reduced_precision(model)
    if len(right):
        flags["gradients"] = reliability.gradients(
            classifier, x[right], y[right], stages
        )
    return flags


def _curve(classifier, x, y, clean, epsilons, threat, options):
    """Measures at the epsilons given, at the default ones, or at the largest.

    Args:
        epsilons: A list, `True`, or `None` for the largest of the default.
    """
    sample = slice(None)
    if epsilons is True or epsilons is None:
        sample = slice(reliability.SAMPLE)
        dimensions = int(np.prod(x.shape[1:]))
        default = default_epsilons(**threat, dimensions=dimensions)
        epsilons = default if epsilons else default[-1:]
    return robustness_curve(
        classifier,
        x[sample],
        y[sample],
        clean[sample],
        epsilons=epsilons,
        norm=threat["norm"],
        input_range=threat["input_range"],
        **options,
    )


def _unstable(logits, y, robust):
    changed = ((logits.argmax(-1) == y) != robust).sum()
    if changed:
        return (
            f"{changed} verdicts changed when the points found were classified "
            "again: the model is random, or decides by rounding"
        )


def _environment(model):
    name = keras.backend.backend()
    versions = {
        package: importlib.metadata.version(package)
        for package in ("keras", name, "numpy")
    }
    return {
        "backend": name,
        **backend.describe(),
        **_dtype(model),
        "keras_adaad": __version__,
        **versions,
        "date": datetime.date.today().isoformat(),
    }


def _dtype(model):
    if isinstance(model, keras.Model):
        return {"dtype": model.dtype_policy.name}
    return {}


def _softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


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
    return indices


def _check_class_names(names, num_classes):
    if names is not None and len(names) != num_classes:
        raise ValueError(
            "Argument `class_names` must have a name for each of the "
            f"{num_classes} classes. Received: {len(names)} names"
        )
    return names if names is None else [str(name) for name in names]
