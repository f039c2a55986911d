"""What a report keeps in its JSON file."""

import dataclasses
import json
import os

import numpy as np


def make_plain(record, except_for):
    """Replaces NumPy numbers and tuples by what JSON gives back."""
    for field in dataclasses.fields(record):
        if field.name not in except_for:
            value = getattr(record, field.name)
            setattr(record, field.name, plain(value))


def plain(value):
    """Returns a copy of the value, as JSON gives it back."""
    return json.loads(json.dumps(value, default=_plain_leaf))


def pack(values, *names):
    """Returns the dictionary with the named booleans as strings of 0 and 1."""
    return {**values, **{name: _to_bits(values[name]) for name in names}}


def unpack(values, *names):
    """Undoes `pack`."""
    return {**values, **{name: _from_bits(values[name]) for name in names}}


def write(values, path):
    """Writes a dictionary to a JSON file, all of it or none."""
    text = json.dumps(values, indent=1)
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _plain_leaf(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    return getattr(value, "__qualname__", repr(value))


def _to_bits(flags):
    return None if flags is None else "".join(np.where(flags, "1", "0"))


def _from_bits(bits):
    if bits is None:
        return None
    if not set(bits) <= {"0", "1"}:
        raise ValueError("flags must be strings of 0 and 1")
    return np.array([bit == "1" for bit in bits], bool)
