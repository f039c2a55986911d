"""Reads NumPy files: `.npz` archives, and `.npy` with DeepMind's trees."""

import io
import zipfile
from typing import Any

import numpy as np

from keras_adaad.zoo.files import mapped
from keras_adaad.zoo.files import pickles
from keras_adaad.zoo.files.budget import Refused
from keras_adaad.zoo.files.pytorch import unpacked


def read_npz(path, budget):
    """Returns the arrays of an archive by name."""
    with zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".npy"): _array(
                unpacked(archive, name, budget), budget
            )
            for name in archive.namelist()
        }


def _array(content, budget):
    file = io.BytesIO(content)
    shape, fortran_order, dtype = _header(file)
    if dtype.hasobject:
        raise Refused(
            "holds Python objects beside arrays, and nothing of them was "
            "executed. Save the arrays alone, e.g. with "
            "`np.savez('weights.npz', **arrays)`."
        )
    budget.spend_array(shape, dtype.itemsize)
    # NumPy's reader would allocate the shape before it looks for data.
    array: Any = np.frombuffer(content, dtype, offset=file.tell())
    return array.reshape(shape, order="CF"[fortran_order])


def read_npy(path, budget):
    """Returns the array of a file, or the objects of an object array."""
    file = mapped.map_file(path).obj
    if _header(file)[2].hasobject:
        return pickles.finish(pickles.read(file, budget), budget)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _header(file):
    """Returns the shape, the order and the dtype at a file's beginning."""
    if np.lib.format.read_magic(file) == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)
