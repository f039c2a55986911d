"""`keras-adaad zoo`."""

import click

from keras_adaad_cli.group import FROM_TFDS
from keras_adaad_cli.group import main
from keras_adaad_cli.group import options
from keras_adaad_cli.group import work


@main.group()
def zoo():
    """List, convert and verify published models."""


PUBLISHED = options(
    click.option("--dataset", type=click.Choice(["cifar10", "cifar100"])),
    click.option(
        "--threat-model", type=click.Choice(["Linf", "L2", "corruptions"])
    ),
)


@zoo.command("list")
@PUBLISHED
def list_(**flags):
    """Print the models that are known."""
    work("zoo").list_models(**flags)


@zoo.command()
@PUBLISHED
@click.option("--name", help="Id in the registry, if it has one.")
@click.option("--checkpoint", help="The file to convert.")
@click.option(
    "--download",
    is_flag=True,
    help="Fetch the file from its published source.",
)
@click.option("--output", required=True, help="A .keras file.")
@click.option(
    "--architecture", help="A builder of keras_adaad.models, without --name."
)
@click.option("--key", help="The network, where a file holds several.")
@click.option(
    "--arguments",
    default="{}",
    help="JSON, the builder's, without --name: '{\"out_shortcut\": true}'.",
)
def convert(**flags):
    """Convert a PyTorch checkpoint to a .keras file."""
    if not (flags["checkpoint"] or (flags["name"] and flags["download"])):
        raise click.UsageError("Give --checkpoint, or --name and --download.")
    work("zoo").convert(**flags)


@zoo.command()
@PUBLISHED
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--name", required=True, help="Id in the registry.")
@FROM_TFDS
@click.option(
    "--images", type=click.IntRange(min=1), default=200, show_default=True
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=50, show_default=True
)
@click.option(
    "--attack",
    default="pgd-20-sat",
    show_default=True,
    help="A name of keras_adaad.attacks.get.",
)
def verify(**flags):
    """Compare a .keras file's accuracy with the published numbers."""
    return work("zoo").verify(**flags)
