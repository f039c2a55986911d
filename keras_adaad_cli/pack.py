"""`keras-adaad pack`."""

import pathlib

import click

from keras_adaad_cli.group import FROM_TFDS
from keras_adaad_cli.group import main
from keras_adaad_cli.group import work


@main.command()
@click.argument(
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path),
)
@click.argument(
    "output",
    metavar="OUT",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    help="Pixels on a side: the centre square of each image is scaled to it. "
    "Default: the images have one size, and keep it.",
)
@click.option(
    "--test",
    help="Test images, as of `evaluate --data`: a warning names images that "
    "nearly duplicate one.",
)
@FROM_TFDS
def pack(**flags):
    """Write the images of FOLDER into OUT, an .npz file for `distil --extra`.

    The sub-folders of FOLDER, sorted by name, are the classes. Without
    sub-folders the images have no labels.
    """
    work("pack").pack(**flags)
