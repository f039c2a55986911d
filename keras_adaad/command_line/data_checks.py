"""Checks of the images and labels of `keras-adaad distil`."""

import pathlib

import click
import numpy as np

from keras_adaad.command_line.data import check_classes
from keras_adaad.data import arguments as data_arguments


def check_extra(path, method):
    """Raises unless a file of --extra has the arrays that a method needs."""
    names = _arrays(path)
    if "image" not in names:
        raise ValueError(
            "it must hold an array image, and maybe label. Received: "
            f"{', '.join(names) or 'no array'}."
        )
    if "label" not in names and method.needs_labels:
        raise ValueError(
            f"it has no array label, and {method.__name__} learns from labels. "
            "Add them, or choose a recipe without labels, such as AdaAD."
        )


def _arrays(path):
    """Returns the names of the arrays in a file."""
    if not pathlib.Path(path).is_file():
        raise ValueError("there is no such file. Give an .npz file.")
    try:
        with np.load(path) as file:
            return list(file)
    except Exception as error:  # Other files can fail in many ways.
        raise ValueError(
            "it must be an .npz file with an array image, and maybe label."
        ) from error


def check_extra_images(path, images):
    """Raises unless a file of --extra has images like these, and labels."""
    with np.load(path) as file:
        extra = data_arguments.check_images("image", file["image"])
        if "label" in file:
            data_arguments.check_labels("label", file["label"], len(extra))
    if (extra.shape[1:], extra.dtype) != (images.shape[1:], images.dtype):
        raise ValueError(
            "it must hold images of the size and type of the data set. "
            f"Received: {extra.shape[1:]} {extra.dtype}, and "
            f"{images.shape[1:]} {images.dtype} in the data set"
        )


def check_labels(arguments, name, distiller, data_sets):
    """Raises if labels that the student learns from are missing or wrong."""
    teacher = f"--teacher {arguments.teacher}"
    outputs = distiller.student.output_shape[-1]
    check_classes(name, outputs, teacher)
    for batches in (data_set.batches for data_set in data_sets):
        if batches.labels is None and distiller.needs_labels:
            raise click.UsageError(
                f"--data {name}: it has no y_train, and "
                f"{type(distiller).__name__} learns from labels. Add it."
            )
        if batches.labels is None:
            continue
        own = num_own(batches)
        for labels, place in (
            (batches.labels[:own], f"--data {name}: y_train"),
            (batches.labels[own:], f"--extra {arguments.extra}: label"),
        ):
            largest = labels.max(initial=0)
            if largest >= outputs:
                raise click.UsageError(
                    f"{place} holds the class {largest}, and {teacher} has "
                    f"{outputs} outputs, for the classes 0 to {outputs - 1}. "
                    "Correct the labels, or give a teacher for these classes."
                )


def num_own(batches):
    """Returns the number of images that are not from --extra."""
    augmentation = batches.augmentation
    extra = augmentation.num_extra if augmentation else 0
    return len(batches.images) - extra
