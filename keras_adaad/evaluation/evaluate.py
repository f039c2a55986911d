"""The robustness evaluation of a model."""

import datetime
import importlib
import logging
import time
from collections.abc import Sequence

import keras

from keras_adaad import backend
from keras_adaad._typing import ArrayLike
from keras_adaad._typing import Logits
from keras_adaad._typing import PathLike
from keras_adaad.attacks import Attack
from keras_adaad.evaluation.curve import measure_curve
from keras_adaad.evaluation.examples import measure_paths
from keras_adaad.evaluation.reliability import after_attacks
from keras_adaad.evaluation.reliability import before_attacks
from keras_adaad.evaluation.report import RobustnessReport
from keras_adaad.evaluation.same_task import image_means
from keras_adaad.evaluation.stages import run_stages
from keras_adaad.evaluation.statistics import softmax
from keras_adaad.evaluation.task import prepare
from keras_adaad.evaluation.threat_model import ThreatModel
from keras_adaad.version import __version__

LOGGER = logging.getLogger("keras_adaad")


def evaluate_robustness(
    model: keras.Model | Logits,
    x: ArrayLike,
    y: ArrayLike,
    attacks: str | Attack | Sequence[str | Attack] = (
        "fgsm",
        "pgd",
        "cw",
        "autoattack",
    ),
    epsilon: float | None = None,
    *,
    norm: str = "linf",
    input_range: tuple[float, float] = (0.0, 1.0),
    indices: ArrayLike | None = None,
    batch_size: int = 256,
    seed: int | None = 0,
    individual: bool = False,
    reliability_checks: bool = True,
    curve: bool | Sequence[float] = True,
    allow_probabilities: bool = False,
    state_path: PathLike | None = None,
    time_budget: float | None = None,
    class_names: Sequence[str] | None = None,
    verbose: int = 1,
) -> RobustnessReport:
    """Attacks a classifier and reports its robust accuracy and reliability.

    The attacks run in turn. Each starts from the clean images, and runs on
    those that the model still gets right after all earlier attacks.

    Random draws depend only on `seed` and the index of the image, not on the
    batch size. Each attack is compiled once per model; new weights need no new
    compilation. Images, perturbations and losses are float32 whatever the dtype
    policy of the model.

    To attack a function instead of a model, such as an exported file on its
    runtime, pass `attacks=["square"]`. The checks that need a gradient and the
    curve are left out, so compare the result with that of the Keras model that
    the function was made from.

    Args:
        model: A `keras.Model` that returns logits; or, for attacks without
            gradients, any function from float32 NumPy images to logits.
        x: Images, of shape `(num_images, ...)`, within `input_range`.
        y: Labels: class indices or one-hot.
        attacks: Names (see `keras_adaad.attacks.get`) or
            `keras_adaad.attacks.Attack`s, in the order in which they run.
        epsilon: Radius of the ball, in the units of the model's input.
            Defaults to 8/255 of `input_range` for `"linf"`. `"l2"` needs it.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
        input_range: Pair `(low, high)` of the values a pixel can have.
            Defaults to `(0.0, 1.0)`.
        indices: Indices of the images to evaluate. Defaults to all.
        batch_size: Images per compiled call. Defaults to `256`.
        seed: Integer seed for all random draws, except those of attacks that
            have their own. `None` draws a new one, which the report holds.
            Defaults to `0`.
        individual: Whether each attack runs on all images, so that the report
            has the accuracy under each attack alone. Defaults to `False`.
        reliability_checks: Whether to look for reasons to doubt the result.
            Defaults to `True`.
        curve: Whether to measure the accuracy over epsilon, with PGD-20 on at
            most 200 images. If a minimum-norm attack ran on all images that are
            correct when clean, its perturbations give the curve on all images,
            and PGD-20 checks it. A list gives the epsilons, and PGD-20 then
            runs on all images. Defaults to `True`.
        allow_probabilities: Whether a model that returns probabilities is
            attacked as it is, and flagged, instead of rejected.
            Defaults to `False`.
        state_path: File for the results of each finished attack, from which a
            killed evaluation resumes. It belongs to one evaluation: the model
            with its configuration, weights and logits, the images and labels,
            the attacks and the seed. A different evaluation raises an error.
            Defaults to `None`.
        time_budget: Seconds after which the attacks end, for a quick look.
            The report says so. Defaults to `None`.
        class_names: List of class names for the report.
        verbose: `1` for progress bars, `2` for two lines per attack, as a log
            file needs, `0` for silence. Defaults to `1`.

    Returns:
        A `RobustnessReport`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model returns probabilities, an attack is unknown,
            or data and labels are invalid. No attack has run by then.

    Example:

    ```python
    report = keras_adaad.evaluate_robustness(
        model, x_test, y_test, attacks=["pgd", "autoattack"], epsilon=8 / 255
    )
    print(report)
    report.save("robustness.json")
    report.save_html("robustness.html")
    ```

    Reference:
        - [Croce & Hein, 2020](https://arxiv.org/abs/2003.01690)
        - [Carlini et al., 2019](https://arxiv.org/abs/1902.06705), on what to
          check and report.
    """
    task = prepare(
        model,
        x,
        y,
        attacks,
        ThreatModel.of(epsilon, norm, input_range),
        indices=indices,
        batch_size=batch_size,
        seed=seed,
        individual=individual,
        reliability_checks=reliability_checks,
        curve=curve,
        allow_probabilities=allow_probabilities,
        state_path=state_path,
        time_budget=time_budget,
        class_names=class_names,
        verbose=verbose,
    )
    flags = before_attacks(task)
    findings = run_stages(task)
    measured = measure_curve(task, findings)
    flags.update(after_attacks(task, findings, measured))
    return _report(task, findings, measured, flags)


def _report(task, findings, curve, flags):
    """Returns the `RobustnessReport`, and logs its flags."""
    flags = {name: message for name, message in flags.items() if message}
    for name, message in flags.items():
        LOGGER.warning("%s: %s", name, message)
    delta = findings.x_adv - task.x
    paths = measure_paths(task, findings)
    return RobustnessReport(
        model_name=_name(task.model),
        labels=task.y,
        indices=task.indices,
        clean=task.clean,
        results=findings.results,
        threat_model=task.threat_model,
        seed=task.seed,
        batch_size=task.batch_size,
        num_classes=task.classifier.num_classes,
        max_perturbation=float(task.threat_model.sizes(delta).max()),
        flags=flags,
        environment=environment(task.model),
        seconds=time.monotonic() - task.begin,
        curve=curve,
        class_names=task.class_names,
        images={
            "clean": task.x,
            "adversarial": findings.x_adv,
            "clean_probabilities": softmax(task.logits),
            "adversarial_probabilities": softmax(findings.logits),
            **paths,
        },
        checked=_was_checked(task, findings),
        image_means=image_means(task.x, task.threat_model.input_range),
    )


def _was_checked(task, findings):
    """Returns whether every check that the model allows was run."""
    return task.reliability_checks and (task.is_function or findings.in_time)


def _name(model):
    names = (getattr(model, name, None) for name in ("name", "__name__"))
    return str(next(filter(None, names), type(model).__name__))


def environment(model):
    """Returns the backend, device, precision and versions, as strings."""
    name = keras.backend.backend()
    # Not the version of a distribution: TensorFlow has several, of other names.
    versions = {
        package: importlib.import_module(package).__version__
        for package in (name, "numpy")
    }
    return {
        "backend": name,
        **backend.describe(),
        **_dtype(model),
        "keras_adaad": __version__,
        "keras": keras.__version__,
        **versions,
        "date": datetime.date.today().isoformat(),
    }


def _dtype(model):
    if isinstance(model, keras.Model):
        return {"dtype": model.dtype_policy.name}
    return {}
