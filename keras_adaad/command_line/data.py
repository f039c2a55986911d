"""The data sets of `--data`."""

import pathlib
import re

import click
import numpy as np

from keras_adaad import data
from keras_adaad.command_line.errors import naming
from keras_adaad.data.from_folder import folder_of_classes
from keras_adaad.data.from_folder import read_split
from keras_adaad.data.image_files import class_folders
from keras_adaad.data.splits import parse_split
from keras_adaad.data.splits import rows_of

# Name, configuration and version: "cifar10_corrupted/fog_1:1.0.0".
TFDS = re.compile(r"(\w+)(/[\w.-]+)?(:[\d.]+)?")

# Pairs that a warning names.
SHOWN = 5


def load_part(source, split, images, data_dir, download, option="--data"):
    """Returns at most so many images of a split and their labels, as arrays.

    `images=None` is all.
    """
    # Arrays need no `tf.data`, which takes seconds to import.
    options = {
        "data_dir": data_dir,
        "download": download,
        "pipeline": "py_dataset",
    }
    with naming(f"{option} {source}"):
        try:
            part = "" if images is None else f"[:{images}]"
            dataset = load(source, f"{split}{part}", **options)
        except ValueError:
            # There may be fewer. Any other error comes again.
            dataset = load(source, split, **options)
        arrays = data.to_arrays(dataset)
        if not isinstance(arrays, tuple):
            raise ValueError("it has no labels. Add them.")
        return arrays


def load_adversarial(path):
    """Returns the images of an `.npy` file, or `x_adv` of an `.npz` file."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            if "x_adv" not in file:
                raise ValueError(
                    "it must hold an array x_adv. Received: "
                    f"{', '.join(file) or 'no array'}."
                )
            images = file["x_adv"]
    else:
        images = np.load(path)
    # As in files of clean images.
    return images / 255 if images.dtype == np.uint8 else images


def warn_of_test_images(images, x_test, names=None):
    """Warns if images nearly duplicate test images; returns their number.

    `names` are those of the images. Without them, images are numbered.
    """
    pairs = data.near_duplicates(images, x_test)
    if not len(pairs):
        return 0
    examples = ", ".join(
        f"{names[image] if names else f'image {image}'} and test image {test}"
        for image, test in pairs[:SHOWN]
    )
    click.echo(
        f"Warning: {len(pairs):,} of {len(images):,} images nearly duplicate "
        "test images, so a test accuracy may be too good: "
        f"{examples}{', ...' if len(pairs) > SHOWN else ''}. Look at them, "
        "and remove them. Drawings and digits may be alike without being "
        "duplicates; see keras_adaad.data.near_duplicates.",
        err=True,
    )
    return len(pairs)


def load(source, split, data_dir=None, download=False, **options):
    """Returns a split of an `.npz` file, a folder, or a data set of TFDS."""
    path = pathlib.Path(source)
    if path.is_dir():
        return _folder(path, split, options)
    if path.suffix == ".npz" and path.is_file():
        return _npz(path, split, options)
    match = TFDS.fullmatch(source)
    if match is None or path.exists():
        raise ValueError(
            "give an .npz file or a folder that exists, or a name in "
            "TensorFlow Datasets."
        )
    _check_name(match[1])
    return data.load_tfds(
        source, split, data_dir=data_dir, download=download, **options
    )


def _folder(path, split, options):
    name, bounds = parse_split(split)
    if (path / name).is_dir() or (path / f"x_{name}.npy").is_file():
        return data.load_folder(path, split, **options)
    parts = [part for part in ("train", "val") if _is_part(path, part)]
    if name != "test" or parts:
        there = f" It has {' and '.join(parts)}: rename one." if parts else ""
        raise ValueError(f"it must have a sub-folder {name!r}.{there}")
    # The folder is the split itself. Its name may have brackets, as slices do.
    path = path.resolve()
    arrays = read_split(path.parent, path.name, bounds)
    return data.load_arrays(*arrays, **options)


def _is_part(path, name):
    """Returns whether a folder has a part of this name, and not a class."""
    if (path / f"x_{name}.npy").is_file():
        return True
    folder = path / name
    return folder.is_dir() and any(p.is_dir() for p in folder.iterdir())


def class_names(source, split="test"):
    """Returns the classes of a folder's split, or `None` elsewhere."""
    path = pathlib.Path(source)
    if not path.is_dir() or (path / f"x_{split}.npy").is_file():
        return None
    path = path.resolve()
    folder = path / split if (path / split).is_dir() else path
    return class_folders(folder_of_classes(folder.parent, folder.name))


def check_classes(source, outputs, model, split="test"):
    """Raises if a folder has other classes than a model has outputs."""
    names = class_names(source, split)
    if names is not None and len(names) != outputs:
        raise click.UsageError(
            f"--data {source}: it has {len(names)} folders of classes "
            f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}), and "
            f"{model} has {outputs} outputs. A label is the place of its "
            "folder by name, so give a folder for each class."
        )


def _npz(path, split, options):
    name, bounds = parse_split(split)
    with np.load(path) as file:
        suffix = f"_{name}"
        if name == "test" and "x" in file and "x_test" not in file:
            suffix = ""
        wanted = [f"x{suffix}", f"y{suffix}"]
        if not set(wanted) <= set(file):
            raise ValueError(
                f"it must hold arrays {' and '.join(wanted)}. Received: "
                f"{', '.join(file) or 'no array'}."
            )
        x, y = (file[key] for key in wanted)
    rows = rows_of(bounds, len(x))
    if len(x) != len(y):
        raise ValueError(f"it holds {len(x)} images and {len(y)} labels.")
    return data.load_arrays(x[rows], y[rows], **options)


def _check_name(name):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(
            "no such file or folder. For a data set of that name, `pip install "
            '"keras-adaad[data]"`.'
        ) from error
    if name not in tfds.list_builders():
        raise ValueError(
            "no such file or folder, and no such name in TensorFlow Datasets."
        )
