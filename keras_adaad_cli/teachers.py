"""`keras-adaad teachers`."""

import pathlib

import click

from keras_adaad_cli.group import EPSILON
from keras_adaad_cli.group import FROM_TFDS
from keras_adaad_cli.group import NORM
from keras_adaad_cli.group import main
from keras_adaad_cli.group import work


@main.command()
@click.argument("teacher", nargs=-1, required=True)
@click.option(
    "--student",
    required=True,
    help="resnet18, mobilenetv2, preactresnet18, or a .keras file.",
)
@click.option(
    "--data",
    required=True,
    help="Training images: an .npz file, a folder, or a name in TensorFlow "
    "Datasets.",
)
@EPSILON
@NORM
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Number of training steps of the student.",
)
@click.option(
    "--images",
    type=click.IntRange(min=50),
    default=500,
    show_default=True,
    help="Number of images to measure, at most.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=50),
    default=10_000,
    show_default=True,
    help="Number of training images for the warm-up, at most.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True
)
@click.option(
    "--state",
    help="File of the teachers that are measured, from which the same command "
    "resumes.",
)
@click.option(
    "--json",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="File to write the ranking to.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="File to draw the ranking to, such as teachers.png.",
)
@FROM_TFDS
def teachers(teacher, **flags):
    """Rank each TEACHER by its use for a student.

    TEACHER is a .keras file, the id of a RobustBench model, or ID=FILE with
    the model's file. Give at least two.
    """
    work("teachers").teachers(teacher, **flags)
