"""Reads pickles as data: a short list of names is allowed, none is imported.

A pickle is a program that calls whatever it names. Here it can only use the
names in `NAMES`, and gets substitutes for them: plain containers, and records
of arrays that become arrays once the whole pickle has been read.
"""

import pickle
import re
import struct
from typing import Any
from typing import ClassVar

import numpy as np

from keras_adaad.zoo.files.budget import Refused

# The first object of a file of PyTorch before 1.6.
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
# Items of a tuple, counted through all references. Python visits that many
# each time that the tuple is a key.
MOST_ITEMS = 10_000
# Tuples that are keys. Python adds a key to a dict in the time of all keys with
# the same hash, and it is easy to make tuples of the same hash.
MOST_TUPLE_KEYS = 1_000
# Of containers in containers.
DEEPEST = 100


class Placeholder:
    """Represents an object of the pickle until `finish`."""

    def build(self, state):
        """Takes the object's state, which most placeholders ignore."""

    def finish(self, budget):
        """Returns what takes the object's place in the content."""
        return self


class Inert(Placeholder):
    """An object whose content is dropped: settings, devices, dtypes."""

    def __init__(self, *_):
        pass


class _Dtype(Placeholder):
    """A dtype of numbers or text. NumPy's own would accept any state."""

    def __init__(self, code, *_):
        self.code = code
        self.order = "="

    def build(self, state):
        self.order = state[1].replace("|", "=")

    def numpy(self):
        if not re.fullmatch(r"[biufcSU]\d+", self.code):
            raise Refused(
                f"holds a NumPy array of dtype {self.code!r}, which is not one "
                "of plain numbers"
            )
        return np.dtype(self.code).newbyteorder(self.order)


class _Array(Placeholder):
    """A NumPy array, of numbers or of further objects."""

    def build(self, state):
        _, self.shape, self.dtype, self.fortran_order, self.data = state

    def finish(self, budget):
        if isinstance(self.data, list):
            items = finish(tuple(self.data), budget)
            return items if self.shape else items[0]
        array: Any = np.frombuffer(self.data, self.dtype.numpy())
        budget.spend_array(self.shape, array.itemsize)
        return array.reshape(self.shape, order="CF"[self.fortran_order])


def _reconstruct(*_):
    return _Array()


def _from_buffer(data, dtype, shape, order, axis_order=None):
    if axis_order is not None:
        raise Refused(
            "holds a NumPy array whose axes were permuted. Save it as "
            "`np.ascontiguousarray(array)`."
        )
    array = _Array()
    array.build((1, shape, dtype, order == "F", data))
    return array


def _jax_array(function, arguments, state, _):
    array = _Array()
    array.build(state)
    return array


def _scalar(dtype, data):
    return np.frombuffer(data, dtype.numpy())[0]


def _encode(text, _):
    # Protocol 2 writes bytes like this.
    return text.encode("latin1")


def _empty_dict(*_):
    return {}


_NUMPY = {
    "multiarray._reconstruct": _reconstruct,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}

NAMES = {
    "builtins.dict": dict,
    # A set can't be nested. Comparing nested frozensets can take forever.
    "builtins.frozenset": set,
    "builtins.list": list,
    "builtins.set": set,
    # Default factories of a `defaultdict`.
    **{f"builtins.{n}": Inert for n in ("bool", "float", "int", "str")},
    "collections.Counter": dict,
    "collections.OrderedDict": dict,
    "collections.defaultdict": _empty_dict,
    "_codecs.encode": _encode,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": Inert,
    # NumPy 2 has renamed `core`.
    **{f"numpy.core.{name}": target for name, target in _NUMPY.items()},
    **{f"numpy._core.{name}": target for name, target in _NUMPY.items()},
    "jax._src.array._reconstruct_array": _jax_array,
    "haiku._src.data_structures.FlatMap": dict,
    "haiku._src.data_structures.FlatMapping": dict,
    "haiku._src.data_structures.frozendict": dict,
    "argparse.Namespace": Inert,
    "pathlib.PosixPath": Inert,
    "pathlib.WindowsPath": Inert,
    "types.SimpleNamespace": Inert,
}


class _Forbidden(Exception):
    pass


class _Unpickler(pickle._Unpickler):
    # Based on the standard library's Python implementation. The C version can
    # be kept neither from setting attributes of whatever a pickle names, nor
    # from filling memory with a table of the size a pickle asks for.
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    # Not in typeshed.
    append: Any
    pop_mark: Any
    proto: Any
    read: Any
    stack: list[Any]

    def __init__(self, file, budget, names, persistent_load):
        super().__init__(file)
        self.budget = budget
        self.names = names
        self.storage = persistent_load
        # By id: each tuple and its number of items, see `MOST_ITEMS`.
        self.tuples = {}
        self.tuple_keys = 0

    def find_class(self, module, name):
        if self.proto < 3:
            # These protocols use the names of Python 2.
            old = pickle._compat_pickle  # type: ignore[attr-defined]
            module, name = old.NAME_MAPPING.get(
                (module, name),
                (old.IMPORT_MAPPING.get(module, module), name),
            )
        target = self.names.get(f"{module}.{name}")
        if target is None:
            raise _Forbidden(f"{module}.{name}")
        return target

    def persistent_load(self, pid):
        return self.storage(*pid)

    def load_build(self):
        state = self.stack.pop()
        if isinstance(self.stack[-1], Placeholder):
            self.stack[-1].build(state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_reduce(self):
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    dispatch[pickle.REDUCE[0]] = load_reduce

    def _instantiate(self, target, arguments):
        self.append(self._call(target, arguments))

    def _call(self, target, arguments):
        # A call may copy its arguments.
        self.budget.spend(8 * sum(map(_length, arguments)))
        for argument in arguments:
            if target is dict and isinstance(argument, (list, tuple)):
                self._count_keys(pair[0] for pair in argument)
            elif target is set:
                self._count_keys(argument)
        return target(*arguments)

    def _count_keys(self, keys):
        self.tuple_keys += sum(isinstance(key, tuple) for key in keys)
        if self.tuple_keys > MOST_TUPLE_KEYS:
            raise Refused(
                f"has more than {MOST_TUPLE_KEYS:,} tuples as keys: it is made "
                "to take very long, or holds more than weights."
            )

    def load_frozenset(self):
        items = self.pop_mark()
        self.append(set(items))

    dispatch[pickle.FROZENSET[0]] = load_frozenset

    def load_bytearray8(self):
        # The original allocates the declared size before it reads.
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def _narrow(load: Any) -> Any:
        def load_narrow(self):
            load(self)
            number = self.stack[-1]
            # A few bytes can make a huge product of sizes, and keys that all
            # have the same hash. No weights need such integers.
            if number.bit_length() > 64 and number != MAGIC_NUMBER:
                self.stack[-1] = Inert()

        return load_narrow

    for opcode in (pickle.INT, pickle.LONG, pickle.LONG1, pickle.LONG4):
        dispatch[opcode[0]] = _narrow(dispatch[opcode[0]])

    def _counting(load: Any) -> Any:
        def load_and_count(self):
            load(self)
            new = self.stack[-1]
            size = 1
            for item in new:
                nested = isinstance(item, tuple) and id(item) in self.tuples
                size += self.tuples[id(item)][1] if nested else 1
            self.tuples[id(new)] = new, size
            if size > MOST_ITEMS:
                raise Refused(
                    f"has a tuple of more than {MOST_ITEMS:,} items: it is "
                    "made to take very long, or holds more than weights."
                )

        return load_and_count

    for opcode in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
        dispatch[opcode[0]] = _counting(dispatch[opcode[0]])

    def _counting_keys(load: Any, keys: Any) -> Any:
        def load_and_count(self):
            self._count_keys(self.stack[keys])
            load(self)

        return load_and_count

    # Which objects on the stack become keys or items of a set.
    for opcode, keys in (
        (pickle.SETITEM, slice(-2, -1)),
        (pickle.SETITEMS, slice(None, None, 2)),
        (pickle.DICT, slice(None, None, 2)),
        (pickle.ADDITEMS, slice(None)),
        (pickle.FROZENSET, slice(None)),
    ):
        dispatch[opcode[0]] = _counting_keys(dispatch[opcode[0]], keys)


def _length(value):
    sized = hasattr(value, "__len__") and not isinstance(value, type)
    return len(value) if sized else 1


def read(file, budget, names=NAMES, persistent_load=None):
    """Returns a pickle's content, to be passed to `finish`; executes nothing.

    Reads `file` from its position to the end of the pickle. `names` maps the
    names that the pickle may use to their substitutes, and other names are
    refused. `persistent_load` returns the substitute of an object that is
    stored outside the pickle.
    """
    start = file.tell()
    try:
        return _Unpickler(file, budget, names, persistent_load).load()
    except _Forbidden as forbidden:
        file.seek(start)
        whole_module = b"torch.nn.modules" in file.read(2**20)
        raise Refused(_refusal(forbidden, whole_module)) from None


def finish(value, budget, depth=0):
    """Returns the value as plain dicts, lists, tuples and arrays.

    An object that is referenced twice is copied, and counted, twice.
    """
    budget.spend(8)
    if depth > DEEPEST:
        raise Refused(f"has containers in more than {DEEPEST} others.")
    depth += 1
    if isinstance(value, Placeholder):
        return value.finish(budget)
    if isinstance(value, dict):
        return {key: finish(item, budget, depth) for key, item in value.items()}
    if isinstance(value, list):
        return [finish(item, budget, depth) for item in value]
    if isinstance(value, tuple):
        return tuple(finish(item, budget, depth) for item in value)
    return value


def _refusal(name, whole_module):
    message = (
        f"holds more than weights: its pickle asks for `{name}`. Nothing of "
        "it was executed. "
    )
    if whole_module:
        return message + (
            "It looks like a whole `torch.nn.Module`. Where the model's code "
            "is installed, and if you trust the file's author, load it with "
            "PyTorch and export the weights alone: "
            "`torch.save(model.state_dict(), 'weights.pt')`."
        )
    return message + (
        "Use a file of the weights alone, as written by "
        "`torch.save(model.state_dict(), 'weights.pt')`. If you did not "
        "expect this name in it, do not open the file with other tools."
    )
