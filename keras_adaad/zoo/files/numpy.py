"""NumPy's files: `.npz` archives, and `.npy` with DeepMind's trees in it."""

import numpy as np

from keras_adaad.zoo.files import pickles
from keras_adaad.zoo.files.pickles import Refused


def read_npz(path):
    """Returns the arrays of an archive by name."""
    with np.load(path, allow_pickle=False) as archive:
        try:
            return {name: archive[name] for name in archive.files}
        except ValueError as error:
            raise Refused(
                "holds Python objects beside arrays, and nothing of them was "
                "executed. Save the arrays alone, e.g. with "
                f"`np.savez('weights.npz', **arrays)`. ({error})"
            ) from None


def read_npy(path):
    """Returns the array of a file, or the objects of an object array."""
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(file)
        else:
            header = np.lib.format.read_array_header_2_0(file)
        if header[2].hasobject:
            return pickles.finish(pickles.read(file))
    return np.load(path, mmap_mode="r", allow_pickle=False)
