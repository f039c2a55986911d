"""The command `keras-adaad`: its options. It imports no Keras.

It stands beside the package, because Python imports `keras_adaad`, and so Keras
and a backend, before any module in it: `--help` would take seconds. What the
commands do is in `keras_adaad.command_line`.
"""

import fractions
import importlib
import math
import os
import pathlib
import sys

import click


class Commands(click.Group):
    """Commands that report an error in one line, and return an exit code."""

    def main(self, *args, **options):
        options |= {"prog_name": "keras-adaad", "standalone_mode": False}
        try:
            code = super().main(*args, **options)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            where = context.command_path if context else "keras-adaad"
            message = " ".join(error.format_message().split())
            click.echo(f"{where}: {message}", err=True)
            code = error.exit_code
        except click.Abort:
            code = 130
        sys.exit(code)


class Number(click.ParamType):
    """A number from 0, also as a fraction: `8/255`."""

    name = "number"

    def convert(self, value, param, ctx):
        try:
            number = float(fractions.Fraction(value))
        except (ValueError, ZeroDivisionError, OverflowError):
            number = math.nan
        if not number >= 0.0:
            self.fail(f"{value!r} is not a number such as 8/255 or 0.03.")
        return number


def work(name):
    """Returns the module that does the work of a command."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return importlib.import_module(f"keras_adaad.command_line.{name}")
    except (ImportError, ValueError) as error:
        raise click.UsageError(
            f"{error}. Install a backend of Keras, such as `pip install "
            '"keras-adaad[tensorflow]"`, and name it in KERAS_BACKEND: '
            "tensorflow, jax or torch."
        ) from error


def options(*some):
    """Returns a decorator that adds options in the order of `--help`."""

    def add(command):
        for option in reversed(some):
            command = option(command)
        return command

    return add


FROM_TFDS = options(
    click.option(
        "--data-dir",
        help="Folder of the TFDS data sets. Default: that of TFDS.",
    ),
    click.option(
        "--download",
        is_flag=True,
        help="Fetch data sets and published models that are missing.",
    ),
)


@click.group(cls=Commands)
def main():
    """Robust students: evaluated, distilled, compared.

    Set KERAS_BACKEND to tensorflow, jax or torch. The exit code is 0, or 1 for
    a model below a threshold, or 2 for bad input.
    """


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
@click.option(
    "--epsilon",
    type=Number(),
    default="8/255",
    show_default=True,
    help="Radius of the ball, for images in [0, 1].",
)
@click.option(
    "--norm",
    type=click.Choice(["linf", "l2"]),
    default="linf",
    show_default=True,
)
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
    help="Robust accuracy in %; below it the exit code is 1.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="The exit code is 1 for a reliability flag too.",
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
@click.option(
    "--epsilon",
    type=Number(),
    default="8/255",
    show_default=True,
    help="Radius of the attack, for images in [0, 1].",
)
@click.option(
    "--norm",
    type=click.Choice(["linf", "l2"]),
    default="linf",
    show_default=True,
)
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


# Those of `distil` that the examples have too, for their own data.
TRAINING = options(
    click.option(
        "--teacher",
        help="Id of a RobustBench model, or a .keras file. Default: the "
        "recipe's.",
    ),
    click.option("--teacher-checkpoint", help="File of the RobustBench model."),
    click.option(
        "--student",
        help="resnet18, mobilenetv2, preactresnet18, or a .keras file to start "
        "from. Default: the recipe's.",
    ),
    FROM_TFDS,
    click.option(
        "--epochs",
        type=click.IntRange(min=1),
        help="Default: the recipe's. The drops of the learning rate scale with "
        "them.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        help="Of all devices together. Default: the recipe's.",
    ),
    click.option(
        "--epsilon",
        type=Number(),
        help="Radius of the attack; the step size scales with it. Default: the "
        "recipe's.",
    ),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True
    ),
    click.option(
        "--extra", help=".npz file of more training images, maybe unlabelled."
    ),
    click.option(
        "--extra-fraction",
        type=float,
        default=0.7,
        show_default=True,
        help="Share of a batch that is from --extra.",
    ),
    click.option(
        "--output",
        type=click.Path(path_type=pathlib.Path),
        help="Folder of the run. Default: results/DATASET_RECIPE.",
    ),
    click.option(
        "--devices",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Number of GPUs or TPU cores; with TensorFlow, BatchNorm sees the "
        "part of the batch that is on its device.",
    ),
    click.option(
        "--hold-out",
        type=click.IntRange(min=1),
        default=1000,
        show_default=True,
        help="Number of training images that select the best epoch.",
    ),
    click.option(
        "--select-on-test",
        is_flag=True,
        help="Hold out nothing and select the epoch with the best PGD-10 "
        "accuracy on the test set, as the reference code does; the test "
        "accuracy of that epoch is then too good, because the test set chose "
        "it.",
    ),
    click.option(
        "--autoattack-images",
        type=click.IntRange(min=1),
        help="Number of test images to attack. Default: all.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(min=1),
        help="Number of training images, for a quick look. Default: all.",
    ),
)


@main.command()
@click.option(
    "--recipe",
    required=True,
    help="Name and data set of a published recipe, such as AdaAD/cifar10.",
)
@click.option(
    "--data",
    help="Training and test images: an .npz file, a folder, or a name in "
    "TensorFlow Datasets. Default: the recipe's data set.",
)
@TRAINING
def distil(recipe, data, **flags):
    """Distil a student by a published recipe, and attack it.

    The same command resumes a killed run after the last epoch or attack that
    was completed.
    """
    work("distil").distil(recipe, data, **flags)


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
@click.option("--data-dir", help="Folder of the TFDS data sets.")
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


if __name__ == "__main__":
    main()
