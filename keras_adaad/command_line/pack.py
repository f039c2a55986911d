"""`keras-adaad pack`: a folder of images as one `.npz` file."""

import sys

import click
import numpy as np

from keras_adaad.command_line.data import load_part
from keras_adaad.command_line.data import warn_of_test_images
from keras_adaad.command_line.errors import check_folder
from keras_adaad.command_line.errors import naming
from keras_adaad.data.image_files import SUFFIXES
from keras_adaad.data.image_files import check_classes
from keras_adaad.data.image_files import contents
from keras_adaad.data.image_files import find_images
from keras_adaad.data.image_files import read_images
from keras_adaad.writing import write_atomically

# Names of a data set's parts.
PARTS = {"train", "test", "val", "validation"}


def pack(folder, output, size, test, data_dir, download):
    """Writes the images of a folder, with their classes if it has any."""
    check_folder("OUT", output, ".npz")
    with naming(f"FOLDER {folder}"):
        paths = find_images(folder)
        classes = _classes(folder, paths)
    if test:
        # First, because a wrong name must not cost the time to read a folder.
        x_test, _ = load_part(test, "test", None, data_dir, download, "--test")
        if x_test.shape[-1] != 3:
            raise click.UsageError(
                f"--test {test}: its images are of shape {x_test.shape[1:]}, "
                "and those of a folder are read as RGB. Give images of 3 "
                "channels."
            )
    with naming(f"FOLDER {folder}"):
        images = read_images(paths, size, _with_progress_bar)
    if test:
        names = [path.relative_to(folder) for path in paths]
        with naming(f"--test {test}"):
            warn_of_test_images(images, x_test, names)
    arrays = {"image": images}
    if classes:
        labels = [classes.index(_class_of(folder, path)) for path in paths]
        arrays["label"] = np.array(labels, "int32")
    write_atomically(output, lambda path: np.savez(path, **arrays))
    _, height, width, _ = images.shape
    print(
        f"Wrote {output}: {len(images):,} images of {height}x{width}, "
        f"{images.nbytes / 1e6:,.2f} MB."
    )
    if classes:
        known = ", ".join(f"{k} {name}" for k, name in enumerate(classes))
        print(f"Labels: {known}. Those of your data must agree.")
    else:
        print("No labels: the folder has no sub-folders.")


def _classes(folder, paths):
    """Returns the names of the classes, an empty list for a flat folder."""
    if not paths:
        raise ValueError(
            f"it holds no image ({', '.join(SUFFIXES)}). Received: "
            f"{contents(folder)}"
        )
    flat = [path for path in paths if path.parent == folder]
    if len(flat) == len(paths):
        return []
    classes = sorted({_class_of(folder, path) for path in paths} - {None})
    if flat:
        raise ValueError(
            "it holds images beside sub-folders of images. Put each image into "
            "the sub-folder of its class, or all into one folder. Received: "
            f"{flat[0].name!r} and the sub-folder {classes[0]!r}"
        )
    if len(classes) == 1:
        raise ValueError(
            f"its only sub-folder with images is {classes[0]!r}, and one class "
            "is no label. Give that folder, for images without labels."
        )
    parts = sorted(PARTS & set(classes))
    if parts:
        raise ValueError(
            f"its sub-folders {', '.join(map(repr, parts))} are parts of a "
            f"data set, not classes. Give {folder / parts[-1]}, for example."
        )
    check_classes(folder, classes)
    return classes


def _class_of(folder, path):
    first, *others = path.relative_to(folder).parts
    return first if others else None


def _with_progress_bar(tasks, length):
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        tasks, length, "Reading", hidden=hidden, file=sys.stderr
    ) as bar:
        yield from bar
