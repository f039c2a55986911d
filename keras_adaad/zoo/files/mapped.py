"""Arrays over a file mapped into memory: nothing is copied until used."""

import mmap
from operator import index

import numpy as np


def map_file(path):
    """Returns the bytes of a file as a read-only `memoryview`."""
    with open(path, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return memoryview(mapping)


def strided(buffer, dtype, offset, size, stride, budget):
    """Returns a view of a storage's bytes as an array; bfloat16 as float32.

    `offset` and `stride` count elements, not bytes. Raises if the view leaves
    the buffer or takes too much memory, e.g. because strides are 0.
    """
    stored = np.frombuffer(buffer, "<u2" if dtype == "bfloat16" else dtype)
    offset = index(offset)
    size = [index(n) for n in size]
    stride = [index(s) for s in stride]
    # Checked with Python's integers: NumPy accepts negative offsets and strides
    # that overflow, and would read outside the buffer.
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if min([offset, *size, *stride]) < 0:
        raise ValueError("a tensor has a negative size, stride or offset")
    if 0 not in size and last >= stored.size:
        raise ValueError("a tensor is larger than its storage")
    itemsize = 4 if dtype == "bfloat16" else stored.itemsize
    budget.spend_array(size, itemsize)
    view = np.lib.stride_tricks.as_strided(
        stored[offset:],
        size,
        [s * stored.itemsize for s in stride],
        writeable=False,
    )
    return widen(view) if dtype == "bfloat16" else view


def widen(bits):
    """Converts the bits of bfloat16 numbers to float32."""
    wide = bits.astype("uint32")
    wide <<= 16
    return wide.view("float32")
