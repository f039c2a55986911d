"""What a run of `keras-adaad distil` is made of: a recipe and its data."""

import dataclasses
from collections.abc import Callable

from keras_adaad import data
from keras_adaad import recipes
from keras_adaad._typing import DataSet
from keras_adaad.command_line.data_checks import check_extra_images
from keras_adaad.command_line.errors import naming

# Divides the 1,000 and the 10,000 images that students are evaluated on.
VALIDATION_BATCH_SIZE = 200


@dataclasses.dataclass
class Experiment:
    """A recipe and its data.

    Args:
        recipe: The `keras_adaad.recipes.Recipe`.
        load: Function of the flags, a split and the options of
            `keras_adaad.data.load_arrays` that returns a data set.
        test: Name of the test split.
    """

    recipe: recipes.Recipe
    load: Callable[..., DataSet]
    test: str = "test"


def name_of_data(recipe, arguments):
    """Returns the value of --data, which the examples do not have."""
    return getattr(arguments, "data", recipe.dataset)


def load_data(experiment, arguments):
    """Returns the training and the validation set."""
    start = 0 if arguments.select_on_test else arguments.hold_out
    stop = start + arguments.limit if arguments.limit else ""
    held_out = f"train[:{start}]"
    if arguments.select_on_test:
        held_out = experiment.test
    devices = arguments.devices
    validation = experiment.load(
        arguments,
        held_out,
        batch_size=max(VALIDATION_BATCH_SIZE // devices, 1) * devices,
    )
    extra = {}
    if arguments.extra:
        with naming(f"--extra {arguments.extra}"):
            check_extra_images(arguments.extra, validation.batches.images)
        extra["extra"] = arguments.extra
        extra["extra_fraction"] = arguments.extra_fraction
    train_set = experiment.load(
        arguments,
        f"train[{start}:{stop}]",
        batch_size=arguments.batch_size,
        training=True,
        padding=arguments.padding,
        flip=arguments.flip,
        seed=arguments.seed,
        # A batch is split among the devices.
        drop_remainder=devices > 1,
        **extra,
    )
    return train_set, validation


def load_test(experiment, arguments, images=None):
    """Returns the test images and their labels, or so many of them."""
    name = name_of_data(experiment.recipe, arguments)
    split = experiment.test + ("" if images is None else f"[:{images}]")
    with naming(f"--data {name}"):
        arrays = data.to_arrays(experiment.load(arguments, split))
        if not isinstance(arrays, tuple):
            raise ValueError("its test images have no labels. Add y_test.")
        return arrays
