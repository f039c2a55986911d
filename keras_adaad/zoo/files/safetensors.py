"""Reads safetensors files, without the package.

A file is the length of a header (8 bytes), the header (JSON: each tensor's
dtype, shape and offsets), and the data. See
https://github.com/huggingface/safetensors.
"""

import json

import numpy as np

from keras_adaad.zoo.files import mapped
from keras_adaad.zoo.files.budget import Refused

_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"},
}


def is_safetensors(head, size):
    """Returns whether a file of this beginning and size is one."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size


def read_safetensors(path, budget):
    """Returns the tensors of a file by name."""
    content = mapped.map_file(path)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:start]))
    header.pop("__metadata__", None)
    return {
        name: _array(content[start:], budget, **entry)
        for name, entry in header.items()
    }


def _array(data, budget, dtype, shape, data_offsets):
    if dtype not in _DTYPES:
        raise Refused(f"holds a tensor of dtype {dtype}. Save it as float32")
    begin, end = data_offsets
    array = np.frombuffer(data[begin:end], _DTYPES[dtype]).reshape(shape)
    budget.spend_array(shape, max(4, array.itemsize))
    return mapped.widen(array) if dtype == "BF16" else array
