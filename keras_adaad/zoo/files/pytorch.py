"""Reads both formats of `torch.save`, without PyTorch.

Since PyTorch 1.6 a file is a zip of one pickle, `data.pkl`, and one entry of
raw bytes per storage. Before, it was five pickles in a row (a magic number, a
version, the machine, the object, the keys of its storages), then each storage
as a count of elements and raw bytes. In both formats the pickle only refers to
its storages, and a tensor is a strided view of one.
"""

import io
import struct
import zipfile
from typing import Any

import numpy as np

from keras_adaad.zoo.files import mapped
from keras_adaad.zoo.files import pickles
from keras_adaad.zoo.files.budget import Refused
from keras_adaad.zoo.files.pickles import Inert

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
    "ComplexFloatStorage": "<c8",
    "ComplexDoubleStorage": "<c16",
}
_DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "complex64", "complex128"),
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
)


class _Storage(Inert):
    def __init__(self, storage_type):
        self.dtype = _STORAGES[storage_type.__name__]
        self.buffer = b""


class _Tensor(pickles.Placeholder):
    def __init__(self, storage, offset, size, stride, *_):
        self.storage = storage
        self.view = offset, size, stride

    def finish(self, budget):
        storage = self.storage
        return mapped.strided(storage.buffer, storage.dtype, *self.view, budget)


def _parameter(tensor, *_):
    return tensor


_NAMES = {
    **pickles.NAMES,
    **{f"torch.{name}": type(name, (Inert,), {}) for name in _STORAGES},
    **{f"torch.{name}": Inert for name in _DTYPES},
    # Not a tuple, because one that is made by a call would not be counted.
    "torch.Size": list,
    "torch.device": Inert,
    "torch.torch_version.TorchVersion": Inert,
    "torch._utils._rebuild_tensor": _Tensor,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}


def read_zip(path, budget):
    """Returns the content of a file of PyTorch 1.6 or later."""
    content = mapped.map_file(path)
    storages = {}
    with zipfile.ZipFile(path) as archive:
        (entry,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
        root = entry.removesuffix("data.pkl")
        _check_byte_order(archive, root, budget)

        def storage(kind, storage_type, key, *_):
            if key not in storages:
                storages[key] = _Storage(storage_type)
                storages[key].buffer = _entry(
                    archive, content, f"{root}data/{key}", budget
                )
            return storages[key]

        file = io.BytesIO(unpacked(archive, entry, budget))
        tree = pickles.read(file, budget, _NAMES, storage)
        return pickles.finish(tree, budget)


def read_legacy(path, budget):
    """Returns the content of a file of PyTorch before 1.6, or of a pickle."""
    content = mapped.map_file(path)
    storages: dict[Any, Any] = {}

    def storage(kind, storage_type, key, location, count, view=None):
        if view is not None:
            raise Refused(
                "holds a view of a storage, as PyTorch before 0.4 wrote it. "
                "Load it with PyTorch and save it again."
            )
        return storages.setdefault(key, _Storage(storage_type))

    # The mapping, because reading past its end takes no more memory.
    file = content.obj
    first = pickles.read(file, budget)
    if first != pickles.MAGIC_NUMBER:
        return pickles.finish(first, budget)
    pickles.read(file, budget)
    if not pickles.read(file, budget)["little_endian"]:
        raise Refused("comes from a big-endian machine")
    tree = pickles.read(file, budget, _NAMES, storage)
    keys = pickles.read(file, budget)
    start = file.tell()
    for key in keys:
        itemsize = _itemsize(storages[key].dtype)
        (count,) = struct.unpack_from("<q", content, start)
        end = start + 8 + count * itemsize
        storages[key].buffer = content[start + 8 : end]
        start = end
    return pickles.finish(tree, budget)


def unpacked(archive, name, budget):
    """Returns the bytes of a zip entry, at most the size it declares."""
    info = archive.getinfo(name)
    budget.spend(info.file_size)
    # The others can't be unpacked in parts: a few bytes fill the memory.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(
            f"has an entry {name!r} that is compressed otherwise than PyTorch "
            "and NumPy do. Save it with one of them."
        )
    with archive.open(info) as entry:
        # With a size, because `read()` unpacks everything before it checks.
        return entry.read(info.file_size)


def _check_byte_order(archive, root, budget):
    name = f"{root}byteorder"
    if name not in archive.namelist():
        return
    if unpacked(archive, name, budget) != b"little":
        raise Refused("comes from a big-endian machine")


def _entry(archive, content, name, budget):
    """Returns the bytes of a zip entry, mapped if they are uncompressed."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        return unpacked(archive, name, budget)
    # The entry's own header may be longer than the directory's copy of it:
    # PyTorch pads it to align the data.
    header = info.header_offset
    signature, name_size, extra_size = struct.unpack_from(
        "<4s22xHH", content, header
    )
    if signature != b"PK\x03\x04":
        raise ValueError(f"there is no entry where {name!r} should start")
    start = header + 30 + name_size + extra_size
    return content[start : start + info.file_size]


def _itemsize(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
