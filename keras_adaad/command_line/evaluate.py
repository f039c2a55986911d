"""`keras-adaad evaluate` and `keras-adaad compare`."""

import importlib.util
import pathlib
import re
import sys

import click
import keras

from keras_adaad import export
from keras_adaad.command_line.data import check_classes
from keras_adaad.command_line.data import class_names
from keras_adaad.command_line.data import load_adversarial
from keras_adaad.command_line.data import load_part
from keras_adaad.command_line.errors import as_given
from keras_adaad.command_line.errors import bad_input
from keras_adaad.command_line.errors import check_folder
from keras_adaad.command_line.errors import naming
from keras_adaad.evaluation import RobustnessReport
from keras_adaad.evaluation import ThreatModel
from keras_adaad.evaluation import evaluate_robustness
from keras_adaad.evaluation import text
from keras_adaad.evaluation.external import check_adversarial
from keras_adaad.evaluation.stages import plan
from keras_adaad.export.formats import FORMATS
from keras_adaad.export.samples import fits
from keras_adaad.models.copying import input_shape


def evaluate(
    model,
    data,
    attacks,
    epsilon,
    norm,
    images,
    state,
    json,
    html,
    adversarial,
    fail_under,
    strict,
    data_dir,
    download,
):
    """Attacks a model and prints the report; returns the exit code."""
    if html and importlib.util.find_spec("jinja2") is None:
        raise click.UsageError(
            f"--html {html} needs Jinja2: pip install jinja2."
        )
    check_folder("--json", json, ".json")
    check_folder("--html", html, ".html", ".htm")
    with naming(as_given("--epsilon", epsilon)):
        threat_model = ThreatModel.of(epsilon, norm)
    if attacks:
        with naming(f"--attacks {attacks}"):
            # Of 10 classes: with fewer, the evaluation refuses some attacks.
            plan(_names(attacks), threat_model, num_classes=10)
    network = load_model(model)
    if isinstance(network, export.ExportedModel):
        with naming(f"MODEL {model}"):
            # That of the images of `--data`.
            network.check_input_range((0.0, 1.0))
    x, y = load_part(data, "test", images, data_dir, download)
    _check_shape(network, x, model, data)
    if adversarial:
        with naming(f"--adversarial {adversarial}"):
            x_adv = load_adversarial(adversarial)
            # Before the attacks, which may take hours.
            check_adversarial("x_adv", x_adv, x, threat_model)
    if attacks is None:
        has_gradient = isinstance(network, keras.Model)
        attacks = "autoattack" if has_gradient else "square"
    given = {
        "attacks": f"--attacks {attacks}",
        "epsilon": as_given("--epsilon", epsilon),
        "state_path": f"--state {state}",
        "x": f"--data {data}",
    }
    # `attacks.get` has the argument `name`.
    given = {**given, "name": given["attacks"], "y": given["x"]}
    try:
        report = evaluate_robustness(
            network,
            x,
            y,
            _names(attacks),
            epsilon,
            norm=norm,
            state_path=state,
            verbose=verbosity(),
        )
    except (TypeError, ValueError) as error:
        match = re.match(r"Argument `(\w+)`", str(error))
        name = match[1] if match else "model"
        argument = given.get(name, f"MODEL {model}")
        raise bad_input(argument, error) from error
    if adversarial:
        with naming(f"--adversarial {adversarial}"):
            report = report.with_adversarial(
                network, x, x_adv, source=adversarial.name
            )
    # First, because a terminal may not show every name.
    if json:
        report.save(json)
    if html:
        report.save_html(html)
    print(report)
    return _exit_code(report, fail_under, strict)


def compare(first, second):
    """Prints a comparison of two files of reports."""
    reports = []
    for path in (first, second):
        with naming(path):
            reports.append(RobustnessReport.load(path))
    with naming(second):
        print(reports[0].compare(reports[1]))


def load_model(path):
    """Returns a Keras model, or an exported file on its runtime."""
    suffix = pathlib.Path(path).suffix
    if suffix not in (".keras", *FORMATS):
        raise click.UsageError(
            f"MODEL {path}: give a .keras, .tflite or .onnx file, or the "
            "folder of a SavedModel, without a dot in its name. Save other "
            "models as a .keras file first."
        )
    try:
        if suffix == ".keras":
            return keras.models.load_model(path)
        return export.load_exported(path)
    except Exception as error:
        reason = bad_input(f"MODEL {path} can't be loaded", error).message
        raise click.UsageError(f"{reason} Save or export it again.") from error


def verbosity():
    """Returns 1, for progress bars, on a terminal, and 2 in a pipe."""
    return 1 if sys.stdout.isatty() else 2


def _names(attacks):
    return [name.strip() for name in attacks.split(",")]


def _check_shape(network, x, model, data):
    received = f"its images are of shape {x.shape[1:]}"
    if class_names(data) is not None:
        received += (
            " (those of a folder are read as RGB: for other channels, give an "
            ".npz file)"
        )
    takes = None
    if isinstance(network, keras.Model):
        takes = input_shape(network)
    if isinstance(takes, tuple) and not fits(x.shape[1:], takes[1:]):
        raise click.UsageError(
            f"--data {data}: {received}, and MODEL {model} takes images of "
            f"shape {takes[1:]}."
        )
    try:
        outputs = network(x[:1]).shape[-1]
    except Exception as error:
        raise bad_input(
            f"--data {data}: {received}, and MODEL {model} does not take them",
            error,
        ) from error
    check_classes(data, outputs, f"MODEL {model}")


def _exit_code(report, fail_under, strict):
    # The mean is rounded: 100 times 0.29 is less than 29.
    accuracy = 100 * int(report.robust.sum()) / len(report.robust)
    failed = []
    if fail_under is not None and accuracy < fail_under:
        failed.append(
            f"the robust accuracy, {accuracy:.2f} %, is below --fail-under "
            f"{fail_under:g}"
        )
    if strict and not report.reliable:
        failed.append(f"--strict, and {'; '.join(text.doubts(report))}")
    for reason in failed:
        click.echo(f"Failed: {reason}.", err=True)
    return 1 if failed else 0
