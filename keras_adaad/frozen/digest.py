"""Digests that identify what values and functions compute.

A compiled search is cached under the digest of its attack. A state file holds
the digest of its evaluation.
"""

import dis
import functools
import hashlib
import os
import sys
import types
import uuid
import warnings

import keras
import numpy as np
from keras import ops

from keras_adaad.frozen.fingerprint import layers_within

_PLAIN = (
    *(bool, int, float, complex, str, bytes),
    *(range, slice, type(None), np.dtype),
)
_FOLLOWED_BY_NAME = (
    *(classmethod, staticmethod, property, type),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType),
    *(types.ModuleType, functools.partial, frozenset, keras.layers.Layer),
)
# What holds names of layers in a configuration.
_NAMES = ("name", "keras_history", "input_layers", "output_layers")
_FRAMEWORKS = {"jax", "jaxlib", "keras", "numpy", "tensorflow", "torch"}
# Code of these packages counts by name: users do not change it between runs.
_LIBRARIES = {*_FRAMEWORKS, "keras_adaad", *sys.stdlib_module_names}


def digest(value, in_process=False, with_names=False):
    """Returns a string that identifies what a value computes.

    The digest covers the data that the value holds, at any depth. A function
    can also reach data by name, in its closure or as a global. Of that data,
    the digest covers arrays, Keras layers, dicts of settings, and objects that
    cannot change in place: numbers, strings, tuples and functions. A dict holds
    settings if its values are numbers and strings, and the function assigns no
    items. The digest does not cover lists and other dicts, because functions
    usually write logs to them. Content that it cannot inspect counts as
    different from everything else.

    A Keras layer counts with the classes, configurations and weights of all
    layers within it, and without their names. Of a layer without `get_config`,
    only the class and the weights count.

    `in_process` is for digests that are only compared within this process,
    while the value is kept alive. Objects that the digest cannot inspect are
    then identified by `id`, and class attributes are part of a class.

    `with_names` is for state files of before November 2026: names of layers
    count, and configurations of layers only as far as that of the model has
    them.
    """
    found = _Digest(in_process, with_names)
    found.add(value)
    return found.hash.hexdigest()


class _Digest:
    def __init__(self, in_process, with_names=False):
        self.in_process = in_process
        self.with_names = with_names
        self.hash = hashlib.sha256()
        # By `id`. The objects are kept alive, so no `id` is used twice.
        self.seen = {}

    def add(self, value, by_name=False):
        """Adds any value.

        `by_name`: whether a function reaches it by name, or its code.
        """
        if isinstance(value, _PLAIN):
            return self._feed(type(value).__name__, value)
        if isinstance(value, (np.ndarray, np.generic)):
            return self._add_array(np.asarray(value))
        if ops.is_tensor(value) or isinstance(value, keras.Variable):
            return self._add_tensor(value)
        if isinstance(value, tuple):
            return self._add_items(value, by_name)
        known = isinstance(value, _FOLLOWED_BY_NAME) or _settings(
            value, by_name
        )
        if by_name and not known:
            return self._add_unseen(value, by_name)
        if id(value) in self.seen:
            return self._feed("seen", self.seen[id(value)][0])
        self.seen[id(value)] = len(self.seen), value
        if isinstance(value, types.CodeType):
            return self._add_code(value)
        if isinstance(value, types.FunctionType):
            return self._add_function(value)
        if isinstance(value, type):
            return self._add_class(value)
        if isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
            return self._feed(_name(value))
        if isinstance(value, keras.layers.Layer):
            return self._add_layer(value)
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, *value.keywords.items())
            return self._add_items(parts, by_name)
        if isinstance(value, types.MethodType):
            return self._add_items((value.__func__, value.__self__), by_name)
        if isinstance(value, (classmethod, staticmethod)):
            return self.add(value.__func__)
        if isinstance(value, property):
            return self.add(value.fget)
        if isinstance(value, list):
            return self._add_items(value)
        if isinstance(value, dict):
            self._feed("dict")
            return self._add_items(tuple(value.items()))
        if isinstance(value, (set, frozenset)):
            items = (digest(item, self.in_process) for item in value)
            return self._feed(*sorted(items))
        return self._add_object(value)

    def _feed(self, *parts):
        for part in parts:
            part = part if isinstance(part, bytes) else repr(part).encode()
            self.hash.update(b"%d:" % len(part) + part)

    def _add_items(self, items, by_name=False):
        self._feed(type(items).__name__, len(items))
        for item in items:
            self.add(item, by_name)

    def _add_array(self, array):
        self._feed("array", str(array.dtype), array.shape)
        if array.dtype == object:
            return self._add_items(array.ravel().tolist())
        self._feed(np.ascontiguousarray(array).tobytes())

    def _add_tensor(self, tensor):
        try:
            array = ops.convert_to_numpy(tensor)
        except Exception:  # A tracer. The error depends on the framework.
            return self._add_unseen(tensor)
        self._add_array(array)

    def _add_code(self, code):
        self._feed("code", code.co_code, code.co_names, code.co_flags)
        self._feed(code.co_varnames, code.co_freevars, code.co_argcount)
        for constant in code.co_consts:
            if isinstance(constant, frozenset):
                constant = tuple(sorted(constant, key=repr))
            self.add(constant)

    def _add_function(self, function):
        self._feed(_name(function))
        if _package(function) in _LIBRARIES:
            return
        self.add(function.__code__)
        for value in (
            function.__defaults__,
            tuple((function.__kwdefaults__ or {}).items()),
            tuple(map(_content, function.__closure__ or ())),
        ):
            self.add(value, by_name=function.__code__)
        for name in sorted(_globals_read(function.__code__)):
            value = function.__globals__.get(name)
            foreign = isinstance(value, (type, types.FunctionType)) and (
                _package(value) != _package(function)
            )
            self._feed(name)
            # The code of other packages is not followed.
            reached = _name(value) if foreign else value
            self.add(reached, by_name=function.__code__)

    def _add_class(self, cls):
        self._feed(_name(cls))
        if _package(cls) in _LIBRARIES:
            return
        self._add_items(cls.__bases__)
        code = (types.FunctionType, classmethod, staticmethod, property)
        for name, value in vars(cls).items():
            constant = self.in_process and not name.startswith("__")
            if constant or isinstance(value, code):
                self._feed(name)
                self.add(value, by_name=True)

    def _add_layer(self, layer):
        """Adds the classes, configurations and weights within a layer."""
        if self.with_names:
            self.add(type(layer))
            self.add(_config(layer))
            for part in layers_within(layer):
                if _package(type(part)) not in _LIBRARIES:
                    self.add(type(part))
        else:
            places: dict[str, int] = {}
            for part in layers_within(layer):
                self.add(type(part))
                self.add(_without_names(_config(part), places))
        self._add_items(tuple(layer.weights))

    def _add_object(self, value):
        self.add(type(value))
        of_framework = _package(type(value)) in _FRAMEWORKS
        if isinstance(value, os.PathLike):
            self._feed(os.fspath(value))
        elif hasattr(value, "__wrapped__"):
            self.add(value.__wrapped__)
        elif hasattr(value, "__dict__") and not of_framework:
            self.add(vars(value))
        elif hasattr(value, "get_config"):
            self.add(value.get_config())
        else:
            self._add_unseen(value)

    def _add_unseen(self, value, by_name=False):
        """Adds an object whose content is not inspected."""
        self._feed(_name(type(value)))
        if self.in_process:
            self._feed(id(value))
        elif not by_name:
            self._feed(uuid.uuid4().hex)


def _name(value):
    module = getattr(value, "__module__", None)
    return module, getattr(value, "__qualname__", getattr(value, "__name__", 0))


def _settings(value, code):
    """Returns whether a value that `code` reaches by name holds settings."""
    return (
        isinstance(value, dict)
        and all(isinstance(v, _PLAIN) for v in value.values())
        and isinstance(code, types.CodeType)
        and not _assigns_items(code)
    )


def _package(value):
    return (getattr(value, "__module__", None) or "").split(".")[0]


def _config(layer):
    try:
        with warnings.catch_warnings(action="ignore"):
            return layer.get_config()
    except Exception:  # Some layers have none. They may raise any error.
        return None


def _without_names(value, places, key=None):
    """Replaces each name in a configuration by its order of appearance.

    Keras numbers the names, so the same code later gives others.
    """
    if key == "dtype":
        return value  # The name of a policy says what it is.
    if isinstance(value, dict):
        return {k: _without_names(v, places, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_names(v, places, key) for v in value]
    if key in _NAMES and isinstance(value, str):
        return places.setdefault(value, len(places))
    return value


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # Nothing has been assigned yet.
        return None


@functools.cache
def _assigns_items(code):
    """Returns whether code, or its inner code, has `x[key] = value`."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return any(map(_assigns_items, inner)) or any(
        instruction.opname == "STORE_SUBSCR"
        for instruction in dis.get_instructions(code)
    )


@functools.cache
def _globals_read(code):
    """Returns the names of the globals that code and its inner code read."""
    names = {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _globals_read(constant)
    return frozenset(names)
