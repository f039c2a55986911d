"""Test images among the images that a student is trained on."""

import hashlib

import numpy as np

from keras_adaad.command_line.data import warn_of_test_images
from keras_adaad.writing import write_atomically

# The number of extra images that nearly duplicate test images, and a digest of
# what was compared. The comparison may take minutes.
NEAR_DUPLICATES = "near_duplicates.txt"


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
