"""Image files as arrays."""

import concurrent.futures
import os
import pathlib
import warnings

import keras
import numpy as np

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp")
# Endings of other image files. They are not read, and that is said.
OTHER_SUFFIXES = (
    *(".avif", ".dng", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe"),
    *(".jxl", ".pbm", ".pgm", ".pnm", ".ppm", ".svg", ".tga", ".tif", ".tiff"),
)
# So many files are one task of a thread.
FILES_PER_TASK = 64


def find_images(folder):
    """Returns the image files in a folder and its sub-folders, sorted.

    Links to folders are followed. Names that begin with a dot are skipped: the
    system or a notebook created them. Image files of other endings are skipped
    with a warning.
    """
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not _leads_back(place, name)
        ]
        found += [
            pathlib.Path(place, name)
            for name in names
            if not name.startswith(".")
        ]
    _warn_of_others(folder, found)
    return sorted(path for path in found if _ending(path) in SUFFIXES)


def _ending(path):
    return path.suffix.lower()


def _warn_of_others(folder, paths):
    """Warns of image files that are not read."""
    others = [path for path in paths if _ending(path) in OTHER_SUFFIXES]
    if others:
        endings = ", ".join(sorted({_ending(path) for path in others}))
        warnings.warn(
            f"{len(others):,} image file(s) of {str(folder)!r} are left out, "
            f"because files that end in {endings} are not read. Convert them "
            "to PNG.",
            stacklevel=5,
        )


def _leads_back(place, name):
    """Whether a sub-folder is a link to a folder that contains it."""
    path = pathlib.Path(place).resolve()
    return (path / name).resolve() in (path, *path.parents)


def class_folders(folder):
    """Returns the names of the sub-folders that are classes, sorted."""
    return sorted(
        path.name
        for path in pathlib.Path(folder).iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def check_classes(folder, found):
    """Raises if a sub-folder is none of the classes that images were found of.

    A network would not learn such a class, and an accuracy would leave it out.
    """
    empty = sorted(set(class_folders(folder)) - set(found))
    if empty:
        raise ValueError(
            f"Each sub-folder of {str(folder)!r} must hold an image "
            f"({', '.join(SUFFIXES)}), because the sub-folders are the "
            "classes. Remove those without. Received: "
            f"{', '.join(map(repr, empty[:5]))} without images"
        )


def read_images(paths, size=None, follow=lambda tasks, length: tasks):
    """Returns image files as an array of uint8, `(num_images, ..., 3)`.

    With a `size`, the centre square of each image is scaled to that many
    pixels on a side. `follow` yields the items of an iterable of the given
    length, and may show a progress bar.
    """
    first = read_image(paths[0], size)
    images = np.empty((len(paths), *first.shape), "uint8")

    def read(start):
        stop = min(start + FILES_PER_TASK, len(paths))
        for place in range(start, stop):
            image = read_image(paths[place], size)
            if image.shape != first.shape:
                raise ValueError(
                    "All images must have one size. Resize them first. "
                    f"Received: {str(paths[place])!r} of shape {image.shape}, "
                    f"and {str(paths[0])!r} of shape {first.shape}"
                )
            images[place] = image

    starts = range(0, len(paths), FILES_PER_TASK)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in follow(pool.map(read, starts), len(starts)):
            pass
    return images


def read_image(path, size=None):
    """Returns an image file as an RGB array of uint8, or raises.

    The rotation in the EXIF data of a photograph is not applied, and
    transparent pixels have their hidden colour.
    """
    options = {}
    if size is not None:
        options = {
            "target_size": (size, size),
            "keep_aspect_ratio": True,
            # Pillow filters what it shrinks, except by its default, "nearest".
            "interpolation": "bicubic",
        }
    try:
        image = keras.utils.load_img(path, **options)
        import PIL.Image

        with PIL.Image.open(path) as file:
            mode = file.mode
    except Exception as error:
        # Pillow's decoders raise many kinds of errors.
        raise ValueError(
            f"The image {str(path)!r} can't be read. Replace it, or remove it "
            f"from the folder. ({error})"
        ) from error
    # Integers or floats of more bits, which Pillow clips to white.
    if mode.startswith(("I", "F")):
        raise ValueError(
            f"The image {str(path)!r} must have 8 bits per channel. Convert "
            f"it. Received: an image of Pillow's mode {mode!r}"
        )
    return np.asarray(image, "uint8")


def contents(directory):
    """Returns the contents of a folder, for an error message."""
    if not directory.is_dir():
        return "no such folder"
    return sorted(path.name for path in directory.iterdir())[:10]
