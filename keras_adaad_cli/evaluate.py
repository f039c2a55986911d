"""`keras-adaad evaluate` and `keras-adaad compare`."""

import pathlib

import click

from keras_adaad_cli.group import EPSILON
from keras_adaad_cli.group import FROM_TFDS
from keras_adaad_cli.group import NORM
from keras_adaad_cli.group import main
from keras_adaad_cli.group import work


def _a_number(context, parameter, value):
    # `FloatRange` takes "nan", and no accuracy is below it.
    if value is not None and value != value:
        raise click.BadParameter("nan is not a number from 1 to 100.")
    return value


@main.command()
@click.argument("model", type=click.Path(exists=True))
@click.option(
    "--data",
    required=True,
    help="Test images: an .npz file, a folder of images by class, or a name "
    "in TensorFlow Datasets.",
)
@click.option(
    "--attacks",
    help="Names, with commas between. Default: autoattack for a Keras model, "
    "square for an exported file, which has no gradient.",
)
@EPSILON
@NORM
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of images, at most.",
)
@click.option(
    "--state",
    help="File of finished attacks, from which the same command resumes.",
)
@click.option(
    "--json",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="File to write the report to.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=pathlib.Path),
    help="File to write the report to, as a page.",
)
@click.option(
    "--adversarial",
    type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path),
    help="File of images from elsewhere, .npy or .npz, one for each image that "
    "is attacked: where they fool the model, the robust accuracy falls.",
)
@click.option(
    "--fail-under",
    # From 1, because a threshold of 0.45 is a mistake for 45.
    type=click.FloatRange(min=1, max=100),
    callback=_a_number,
    help="Robust accuracy in %; below it the exit code is 1.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Also fail (exit code 1) if the report has a flag: a reason not to "
    "trust the number.",
)
@FROM_TFDS
def evaluate(**flags):
    """Measure the robust accuracy of MODEL.

    MODEL is a .keras, .tflite or .onnx file, or the folder of a SavedModel. It
    takes images in [0, 1] and returns logits.
    """
    return work("evaluate").evaluate(**flags)


@main.command()
@click.argument("first", type=click.Path(exists=True, dir_okay=False))
@click.argument("second", type=click.Path(exists=True, dir_okay=False))
def compare(first, second):
    """Compare two reports, image by image.

    FIRST and SECOND are files that `evaluate --json` wrote.
    """
    work("evaluate").compare(first, second)
