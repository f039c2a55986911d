"""`keras-adaad zoo`: lists, converts and verifies published models."""

import json
import pathlib
import re
import time

import click
import keras

from keras_adaad.command_line.errors import bad_input
from keras_adaad.command_line.errors import check_folder
from keras_adaad.command_line.errors import naming
from keras_adaad.command_line.evaluate import verbosity
from keras_adaad.writing import write_atomically
from keras_adaad.zoo import architecture as architectures
from keras_adaad.zoo import load
from keras_adaad.zoo import parity
from keras_adaad.zoo import registry
from keras_adaad.zoo.verify import verify as compare_with_published


def list_models(dataset, threat_model):
    """Prints the models that are known."""
    print(registry.list_models(dataset, threat_model))


def convert(
    dataset,
    threat_model,
    name,
    checkpoint,
    download,
    output,
    architecture,
    key,
    arguments,
):
    """Converts a file, checks its logits, and writes a `.keras` file."""
    check_folder("--output", pathlib.Path(output), ".keras")
    own = {"--architecture": architecture, "--key": key}
    own["--arguments"] = None if arguments == "{}" else arguments
    for option, value in own.items():
        if name and value:
            raise click.UsageError(
                f"{option} {value}: --name {name} has it already. Leave out "
                "one of the two."
            )
    source = f"--name {name}" if name else f"--checkpoint {checkpoint}"
    given = {
        "architecture": f"--architecture {architecture}",
        "arguments": f"--arguments {arguments}",
        "name": source,
        "path": source,
    }
    with naming(given["arguments"]):
        arguments = _json_object(arguments)
    if architecture:
        with naming(given["architecture"]):
            architectures.check(architecture)
    start = time.time()
    try:
        if name:
            entry = _entry(name, dataset, threat_model)
            path = load.fetch(entry, checkpoint, download)
            content = load.read_published(entry, path)
        else:
            path = checkpoint
            content = load.read(path, architecture, key, arguments)
        model, report = load.convert(*content)
    except Exception as error:
        # A checkpoint may be wrong in many ways.
        match = re.match(r"Argument `(\w+)`", str(error))
        # Any other is an argument of the builder.
        option = given.get(match[1], given["arguments"]) if match else source
        raise bad_input(option, error) from error
    arrays, architecture, options = content
    print(f"{path}: {architecture}, {model.count_params():,} parameters")
    print(f"{report}, in {time.time() - start:.1f} s")
    if not parity.can_check():
        print("logits not checked: PyTorch is not installed")
    else:
        result = parity.check_parity(model, arrays, architecture, options)
        print(f"against PyTorch: {result}")
        if not result.passed:
            raise click.ClickException(
                "Nothing was written: the logits are not the published."
            )
    write_atomically(output, model.save)
    print(f"Wrote {output}")


def verify(
    dataset,
    threat_model,
    model,
    name,
    data_dir,
    download,
    images,
    batch_size,
    attack,
):
    """Prints how a model compares with what is published of it.

    Returns the exit code: 1 if they are not consistent.
    """
    with naming(f"--name {name}"):
        entry = _entry(name, dataset, threat_model)
    with naming(f"MODEL {model}"):
        network = keras.models.load_model(model)
    try:
        result = compare_with_published(
            network,
            entry,
            num_images=images,
            attack=attack,
            batch_size=batch_size,
            data_dir=data_dir,
            download=download,
            verbose=verbosity(),
        )
    except (ImportError, ValueError) as error:
        raise bad_input(f"MODEL {model} as {name}", error) from error
    print(result)
    return 0 if result.consistent else 1


def _json_object(text):
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("give a JSON object, such as '{\"mean\": null}'.")
    return value


def _entry(name, dataset, threat_model):
    return registry.entry(name, dataset or "cifar10", threat_model or "Linf")
