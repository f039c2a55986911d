"""`keras-adaad distil`."""

import pathlib

import click

from keras_adaad_cli.group import FROM_TFDS
from keras_adaad_cli.group import Number
from keras_adaad_cli.group import main
from keras_adaad_cli.group import options
from keras_adaad_cli.group import work

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
        "--padding",
        type=click.IntRange(min=0),
        help="Number of zero pixels on each side before the random crop of a "
        "training image; 0 for no crop. Default: the recipe's.",
    ),
    click.option(
        "--flip/--no-flip",
        default=True,
        show_default=True,
        help="Mirror half of the training images. Wrong for digits and text.",
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
        help="Share of a batch that is from --extra. Default: 0.7.",
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
