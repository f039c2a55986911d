"""Test images among the images that a student is trained on."""

import hashlib

import click
import numpy as np

from keras_adaad.command_line.data import warn_of_test_images
from keras_adaad.command_line.data_checks import num_own
from keras_adaad.data.batches import to_unit_range
from keras_adaad.writing import write_atomically

# The number of extra images that nearly duplicate test images, and a digest of
# what was compared. The comparison may take minutes.
NEAR_DUPLICATES = "near_duplicates.txt"
# The share of the test images above which their copies are a flag: published
# data sets have a few.
FEW = 0.01


def flags_of_copies(data_sets, x_test):
    """Warns if test images are among the images of other data sets.

    Returns:
        The flags of the report.
    """
    held: set[bytes] = set()
    for batches in (data_set.batches for data_set in data_sets):
        held.update(_hashes(batches.images[: num_own(batches)]))
    count = sum(image in held for image in _hashes(x_test))
    if not count:
        return {}
    found = f"{count:,} of {len(x_test):,} test images are also training images"
    click.echo(
        f"Warning: {found}, so a test accuracy is too good. Remove them from "
        "the training images.",
        err=True,
    )
    if count <= FEW * len(x_test):
        return {}
    return {"trained_on_test": f"{found}, so the accuracy is too high"}


def _hashes(images):
    """Yields what identifies an image."""
    for image in images:
        image = to_unit_range(image).tobytes()
        yield hashlib.blake2b(image, digest_size=16).digest()


def flags_of_extra(arguments, x_test):
    """Warns if images of --extra nearly duplicate test images.

    Returns:
        The flags of the report.
    """
    path = arguments.output / NEAR_DUPLICATES
    if not arguments.extra:
        path.unlink(missing_ok=True)
        return {}
    compared = _digest(arguments.sha256["extra"], x_test)
    count = _kept(path, compared)
    if count is None:
        with np.load(arguments.extra) as file:
            count = warn_of_test_images(file["image"], x_test)
        text = f"{count} {compared}"
        write_atomically(path, lambda part: part.write_text(text))
    if not count:
        return {}
    text = (
        f"{count:,} images of --extra nearly duplicate test images, so the "
        "accuracy may be too high"
    )
    return {"near_duplicates": text}


def _digest(extra, x_test):
    return hashlib.sha256(extra.encode() + x_test.tobytes()).hexdigest()


def _kept(path, compared):
    """Returns the number that was kept for this comparison, or `None`."""
    # Earlier versions kept the number alone.
    words = path.read_text().split() if path.exists() else []
    return int(words[0]) if words[1:] == [compared] else None
