"""What a run of `keras-adaad distil` is made of: a recipe and its data."""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_adaad import data
from keras_adaad import recipes
from keras_adaad._typing import DataSet
from keras_adaad.attacks.attack import check_attackable
from keras_adaad.command_line.data import check_classes
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


def load_data(experiment, arguments):
    """Returns the training and the validation set."""
    start = 0 if arguments.select_on_test else arguments.hold_out
    stop = start + arguments.limit if arguments.limit else ""
    held_out = f"train[:{start}]"
    if arguments.select_on_test:
        held_out = experiment.test
    extra = {}
    if arguments.extra:
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
        drop_remainder=arguments.devices > 1,
        **extra,
    )
    devices = arguments.devices
    validation = experiment.load(
        arguments,
        held_out,
        batch_size=max(VALIDATION_BATCH_SIZE // devices, 1) * devices,
    )
    return train_set, validation


def load_test(experiment, arguments, images=None):
    """Returns the test images and their labels, or so many of them."""
    name = getattr(arguments, "data", experiment.recipe.dataset)
    split = experiment.test + ("" if images is None else f"[:{images}]")
    with naming(f"--data {name}"):
        arrays = data.to_arrays(experiment.load(arguments, split))
        if not isinstance(arrays, tuple):
            raise ValueError("its test images have no labels. Add y_test.")
        return arrays


def check_labels(experiment, arguments, student):
    """Raises if labels are no classes of the student; returns test images."""
    name = getattr(arguments, "data", experiment.recipe.dataset)
    outputs = student.output_shape[-1]
    check_classes(name, outputs, f"--teacher {arguments.teacher}")
    with naming(f"--data {name}"):
        x_test, y_test = load_test(experiment, arguments)
        check_attackable(student, x_test, y_test, (0.0, 1.0))
    if arguments.extra:
        with naming(f"--extra {arguments.extra}"):
            with np.load(arguments.extra) as file:
                labels = file["label"] if "label" in file else np.zeros(1)
            if labels.max() >= outputs or labels.min() < 0:
                raise ValueError(
                    f"its labels are {labels.min()} to {labels.max()}, and the "
                    f"teacher has {outputs} classes, from 0."
                )
    return x_test
