"""A folder of image files, or of arrays."""

import pathlib
import warnings
from typing import Any

import numpy as np

from keras_adaad._typing import DataSet
from keras_adaad._typing import PathLike
from keras_adaad.data.arguments import check_labels
from keras_adaad.data.from_arrays import load_arrays
from keras_adaad.data.image_files import check_classes
from keras_adaad.data.image_files import class_folders
from keras_adaad.data.image_files import contents
from keras_adaad.data.image_files import find_images
from keras_adaad.data.image_files import read_images
from keras_adaad.data.splits import parse_split
from keras_adaad.data.splits import rows_of


def load_folder(
    directory: PathLike,
    split: str = "train",
    batch_size: int = 128,
    training: bool = False,
    **options: Any,
) -> DataSet:
    """Loads a folder of image files, or of arrays.

    Two layouts are supported. `train`, `test` and so on are names of splits:

    ```
    directory/train/<class>/**/*.JPEG      directory/x_train.npy
    directory/val/<class>/**/*.JPEG        directory/y_train.npy
                                           directory/x_test.npy
    ```

    Image files (JPEG, PNG, BMP, GIF, WebP) are read as RGB, must all have the
    same size, and are held in memory as uint8 (Tiny-ImageNet: 1.2 GB). The
    classes are the sub-folders of `directory/train`, sorted by name. Instead of
    sub-folders, a split may have a file `<split>_annotations.txt`, as the `val`
    of Tiny-ImageNet: a line for each file of `<split>/images`, with its name
    and its class. A split must have an image of each class. Names that begin
    with a dot, such as `.ipynb_checkpoints` and `._1.png`, are skipped. Other
    image files, such as TIFF, are skipped with a warning. Reading files needs
    Pillow.

    `x_<split>.npy` holds images, `(num_images, height, width, channels)` of
    uint8, or of floats in [0, 1]; `y_<split>.npy` holds class indices, and
    may be absent.

    Args:
        directory: Path of the folder.
        split: Name of a split, or a slice of it: `"train[:-1000]"` and
            `"train[-1000:]"`, or `"train[:90%]"` and `"train[90%:]"`, have no
            image in common. A slice is a random subset, so that it has all
            classes; it is the same in every call. Defaults to `"train"`.
        batch_size, training, **options: Arguments of
            `keras_adaad.data.load_arrays`.

    Returns:
        A finite data set, as of `keras_adaad.data.load_arrays`.

    Raises:
        ValueError: If there is no such split, an image can't be read, has
            another size or an unknown class, a class has no image, or an
            option is out of range.

    Example:

    ```python
    train = keras_adaad.data.load_folder(
        "tiny-imagenet-200", "train[:-1000]", training=True, padding=8
    )
    test = keras_adaad.data.load_folder("tiny-imagenet-200", "val")
    ```
    """
    images, labels = read_split(pathlib.Path(directory), *parse_split(split))
    return load_arrays(images, labels, batch_size, training, **options)


def read_split(directory, name, bounds):
    """Returns the images and the labels, or `None`, of a split by its name."""
    if (directory / f"x_{name}.npy").is_file():
        return _read_arrays(directory, name, bounds)
    if (directory / name).is_dir():
        return _read_files(directory, name, bounds)
    raise ValueError(
        f"Argument `split` names neither a folder {name!r} nor a file "
        f"'x_{name}.npy' of `directory`. Received: split={name!r}, "
        f"directory={str(directory)!r}, with {contents(directory)}"
    )


def _read_arrays(directory, name, bounds):
    images = np.load(directory / f"x_{name}.npy", mmap_mode="r")
    rows = rows_of(bounds, len(images))
    path = directory / f"y_{name}.npy"
    if not path.is_file():
        return images[rows], None
    return images[rows], check_labels(path.name, np.load(path), len(images))[
        rows
    ]


def _read_files(directory, name, bounds):
    files = _list_files(directory / name)
    rows = rows_of(bounds, len(files))
    folders = folder_of_classes(directory, name)
    classes = class_folders(folders)
    _warn_of_numbers(classes)
    indices = {name: index for index, name in enumerate(classes)}
    paths, names = zip(*(files[row] for row in rows), strict=True)
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ValueError(
            "Each class of a split must be a sub-folder of "
            f"{str(folders)!r}. Received: {unknown[:5]}"
        )
    missing = sorted(set(classes) - {name for _, name in files})
    if missing:
        raise ValueError(
            f"Each class, a sub-folder of {str(folders)!r}, must have an image "
            f"in {str(directory / name)!r}: an accuracy would leave the class "
            "out. Add images, or remove the class from both. "
            f"Received: {', '.join(map(repr, missing[:5]))} without images"
        )
    return read_images(paths), np.array([indices[name] for name in names])


def _warn_of_numbers(classes):
    """Warns if names of classes are numbers in another order."""
    numbers = all(name.isdecimal() for name in classes)
    if numbers and classes != sorted(classes, key=int):
        warnings.warn(
            "The sub-folders are classes in the order of their names as text: "
            f"{', '.join(classes[:3])}, .... If a label is to be the number of "
            "its folder, write the numbers with leading zeros.",
            stacklevel=3,
        )


def folder_of_classes(directory, name):
    """Returns the folder whose sub-folders are the classes of a split."""
    train = directory / "train"
    return train if train.is_dir() else directory / name


def _list_files(folder):
    """Returns pairs `(path, class name)`, sorted by path."""
    annotations = folder / f"{folder.name}_annotations.txt"
    if annotations.is_file():
        files = _annotated(folder / "images", annotations)
    else:
        files = [
            (path, path.relative_to(folder).parts[0])
            for path in find_images(folder)
            if path.parent != folder
        ]
        if files:
            check_classes(folder, {name for _, name in files})
    if not files:
        raise ValueError(
            f"The folder {str(folder)!r} must have a sub-folder of images for "
            f"each class. Received: {contents(folder)}"
        )
    return sorted(files)


def _annotated(folder, annotations):
    files = []
    for number, line in enumerate(annotations.read_text().splitlines(), 1):
        words = line.split()
        if len(words) == 1:
            raise ValueError(
                f"Each line of {str(annotations)!r} must have the name of a "
                f"file and its class. Received: line {number}, {line!r}"
            )
        if words:
            files.append((folder / words[0], words[1]))
    return files
