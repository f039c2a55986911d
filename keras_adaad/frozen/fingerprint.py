"""Fingerprints of models, to detect changes other than weight values.

A fingerprint covers every layer within the model, at any depth: its identity,
whether it is trainable, its dtype policy, and all attributes that its class
sets, such as an activation, a rate, or the variables of LoRA.
"""

import functools
import weakref
from typing import Any

import keras
import numpy as np

from keras_adaad.backend import keras_private

# In bytes. Larger arrays are compared by identity, not by content.
_LARGEST_ARRAY = 4096


def fingerprint(model):
    """Returns the fingerprint of a model, for comparison with `is_same`.

    It does not keep the model alive.
    """
    found: list[Any] = []
    _add_layer(model, found, set())
    return found


def is_same(first, second):
    """Returns whether two fingerprints are the same."""
    if len(first) != len(second):
        return False
    return all(
        a is b
        or (
            type(a) is type(b)
            and not isinstance(a, weakref.ReferenceType)
            and a == b
        )
        for a, b in zip(first, second, strict=True)
    )


def layers_within(model):
    """Returns the model and every layer within it, at any depth, once each."""
    seen: dict[int, Any] = {}
    _add_layer(model, [], set(), seen)
    return list(seen.values())


def graph_operations(model):
    """Returns the operations of a Functional or Sequential model, else []."""
    # A class that overrides `call` might not compute its graph.
    if type(model).call.__module__.split(".")[0] != "keras":
        return []
    if "call" in vars(model):
        return []
    if isinstance(model, keras.Sequential):
        return model.layers
    return getattr(model, "operations", [])


def _add_layer(layer, found, seen, layers=None):
    if id(layer) in seen:
        return found.append(weakref.ref(layer))
    seen.add(id(layer))
    if layers is not None and isinstance(layer, keras.layers.Layer):
        layers[id(layer)] = layer
    found.append(weakref.ref(layer))
    attributes = vars(layer)
    for name in keras_private.LAYER_ATTRIBUTES:
        if name in attributes:
            _add(attributes[name], found, seen, layers)
    if isinstance(layer, keras.Model):
        operations = graph_operations(layer)
        if operations:
            for operation in operations:
                _add_layer(operation, found, seen, layers)
            return
    for name, value in attributes.items():
        if name not in _ignored() and not name.startswith(
            keras_private.TRACKING_PREFIX
        ):
            found.append(name)
            _add(value, found, seen, layers)


@functools.cache
def _ignored():
    """Returns the attributes that do not affect what a layer computes."""
    return {
        *vars(keras.layers.Layer()),
        *vars(keras.Model()),
        *keras_private.TRAINING_ATTRIBUTES,
    }


def _add(value, found, seen, layers):
    if isinstance(value, (keras.layers.Layer, keras.Operation)):
        _add_layer(value, found, seen, layers)
    elif isinstance(value, dict):
        found.append(len(value))
        for key, inner in value.items():
            _add(key, found, seen, layers)
            _add(inner, found, seen, layers)
    elif isinstance(value, (list, tuple, set, frozenset)):
        found.append(len(value))
        for inner in value:
            _add(inner, found, seen, layers)
    elif isinstance(value, np.ndarray) and value.nbytes <= _LARGEST_ARRAY:
        found.append((value.shape, value.dtype.str, value.tobytes()))
    elif isinstance(value, (bool, int, float, complex, str, bytes)):
        found.append(value)
    else:
        found.append(_identity(value))


def _identity(value):
    try:
        return weakref.ref(value)
    except TypeError:
        return value
