"""`python -m keras_adaad.zoo`: list, convert and verify published models."""

import argparse
import json
import sys
import time

import keras

from keras_adaad.zoo import load
from keras_adaad.zoo import parity
from keras_adaad.zoo import registry
from keras_adaad.zoo.verify import verify


def list_(arguments):
    """Prints the models that are known."""
    print(registry.list_models(arguments.dataset, arguments.threat_model))


def convert(arguments):
    """Converts a file, checks its logits, and writes a `.keras` file."""
    start = time.time()
    if arguments.name:
        entry = _entry(arguments)
        path = load.fetch(entry, arguments.checkpoint, arguments.download)
        content = load.read_published(entry, path)
    else:
        path = arguments.checkpoint
        content = load.read(
            path,
            arguments.architecture,
            arguments.key,
            json.loads(arguments.arguments),
        )
    arrays, architecture, options = content
    model, report = load.convert(*content)
    print(f"{path}: {architecture}, {model.count_params():,} parameters")
    print(f"{report}, in {time.time() - start:.1f} s")
    if not parity.can_check():
        print("logits not checked: PyTorch is not installed")
    else:
        result = parity.check_parity(model, arrays, architecture, options)
        print(f"against PyTorch: {result}")
        if not result.passed:
            sys.exit("Nothing was written: the logits are not the published.")
    model.save(arguments.output)
    print(f"Wrote {arguments.output}")


def _entry(arguments):
    return registry.entry(
        arguments.name,
        arguments.dataset or "cifar10",
        arguments.threat_model or "Linf",
    )


def run_verify(arguments):
    """Prints how a model compares with what is published of it."""
    entry = _entry(arguments)
    model = keras.models.load_model(arguments.model)
    result = verify(
        model,
        entry,
        num_images=arguments.images,
        attack=arguments.attack,
        batch_size=arguments.batch_size,
        data_dir=arguments.data_dir,
    )
    print(result)
    if not result.consistent:
        sys.exit(1)


def main(argv=None):
    """Runs the command of a command line."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_adaad.zoo", description=__doc__
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="the models that are known")
    command.set_defaults(run=list_)
    _add_selection(command)

    command = commands.add_parser(
        "convert", help="a PyTorch checkpoint to a .keras file"
    )
    command.set_defaults(run=convert)
    _add_selection(command)
    command.add_argument("--name", help="id in the registry, if it has one")
    command.add_argument("--checkpoint", help="the file to convert")
    command.add_argument(
        "--download",
        action="store_true",
        help="fetch the file from its published source",
    )
    command.add_argument("--output", required=True, help="a .keras file")
    command.add_argument(
        "--architecture", help="a builder of keras_adaad.models, without --name"
    )
    command.add_argument(
        "--key", help="the network, where a file holds several"
    )
    command.add_argument(
        "--arguments",
        default="{}",
        help="JSON, the builder's, without --name: '{\"out_shortcut\": true}'",
    )

    command = commands.add_parser(
        "verify", help="a .keras file's accuracy against the published numbers"
    )
    command.set_defaults(run=run_verify)
    _add_selection(command)
    command.add_argument("model", help="a .keras file")
    command.add_argument("--name", required=True, help="id in the registry")
    command.add_argument("--data-dir", help="folder of TFDS data sets")
    command.add_argument("--images", type=int, default=200)
    command.add_argument("--batch-size", type=int, default=50)
    command.add_argument(
        "--attack", default="pgd-20-sat", help="see keras_adaad.attacks.get"
    )

    arguments = parser.parse_args(argv)
    if arguments.run is convert and not (
        arguments.checkpoint or (arguments.name and arguments.download)
    ):
        parser.error("convert needs --checkpoint, or --name and --download")
    arguments.run(arguments)


def _add_selection(command):
    command.add_argument("--dataset", choices=registry.DATASETS)
    command.add_argument("--threat-model", choices=registry.THREAT_MODELS)


if __name__ == "__main__":
    main()
