"""Loads a PyTorch state dict into a Keras network, accounting for every key.

The layers of `keras_adaad.models` carry the names of the PyTorch modules, so
no table of names is needed: only the layouts of the arrays differ.
"""

import dataclasses
from typing import Any

import keras
import numpy as np

# Names of normalisation statistics in checkpoints. Here they are arguments of
# the network, not weights.
_BUFFERS = {"mean": "mean", "mu": "mean", "std": "std", "sigma": "std"}


@dataclasses.dataclass
class Conversion:
    """The names of a checkpoint's arrays that were used, and dropped."""

    used: list[str]
    dropped: list[str]

    def __str__(self):
        text = f"{len(self.used)} arrays used, {len(self.dropped)} dropped"
        kinds = {
            kind: sum(_kind(name) == kind for name in self.dropped)
            for kind in sorted({_kind(name) for name in self.dropped})
        }
        listed = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        return f"{text} ({listed})" if kinds else text


def load_state_dict(model, arrays):
    """Loads the weights of a PyTorch network into its Keras counterpart.

    Returns a `Conversion`. Raises if a weight is missing, has no place in the
    model, or has another shape. The model is unchanged then.
    """
    places = _places(model)
    dropped = [name for name in arrays if _is_droppable(name)]
    extra = set(arrays) - set(places) - set(dropped)
    missing = set(places) - set(arrays)
    if extra or missing:
        raise ValueError(
            f"The checkpoint is not one of the network {model.name!r}: "
            f"{_names('missing from the file', missing)}; "
            f"{_names('without a place in the network', extra)}. Check the "
            "architecture, e.g. by `keras_adaad.zoo.list_models()`."
        )
    misshapen = {
        f"{name} {arrays[name].shape} instead of {_expected_shape(place)}"
        for name, place in places.items()
        if arrays[name].shape != _expected_shape(place)
    }
    if misshapen:
        raise ValueError(
            f"The checkpoint is of the family of {model.name!r} with another "
            "width or number of classes: "
            f"{_names('of another shape', misshapen)}."
        )
    for name, (variable, axes) in places.items():
        array = np.asarray(arrays[name], variable.dtype)
        variable.assign(np.transpose(array, axes))
    return Conversion(list(places), dropped)


def normalization(arrays):
    """Returns a dict of the `mean` and `std` in a checkpoint, if any."""
    return {
        _BUFFERS[name]: [float(v) for v in np.ravel(array)]
        for name, array in arrays.items()
        if name in _BUFFERS
    }


def _places(model):
    """Returns each PyTorch name's variable and the axes to transpose by.

    Convolution kernels are (out, in, rows, columns) in PyTorch and (rows,
    columns, in, out) in Keras. Depthwise kernels are (channels, 1, rows,
    columns) and (rows, columns, channels, 1).
    """
    places: dict[str, tuple[Any, tuple[int, ...]]] = {}
    for layer in model.layers:
        name = layer.name.replace("__", ".")
        if isinstance(layer, keras.layers.BatchNormalization):
            places[name + ".weight"] = layer.gamma, (0,)
            places[name + ".bias"] = layer.beta, (0,)
            places[name + ".running_mean"] = layer.moving_mean, (0,)
            places[name + ".running_var"] = layer.moving_variance, (0,)
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            places[name + ".weight"] = layer.kernel, (2, 3, 0, 1)
        elif isinstance(layer, keras.layers.Conv2D):
            places[name + ".weight"] = layer.kernel, (2, 3, 1, 0)
        elif isinstance(layer, keras.layers.Dense):
            places[name + ".weight"] = layer.kernel, (1, 0)
            places[name + ".bias"] = layer.bias, (0,)
    return places


def _expected_shape(place):
    variable, axes = place
    return tuple(variable.shape[axes.index(i)] for i in range(len(axes)))


def _is_droppable(name):
    # `sub_block1` is in many wide ResNet files, but no forward pass uses it.
    return _kind(name) in ("num_batches_tracked", "sub_block1", *_BUFFERS)


def _kind(name):
    """Returns the kind of a dropped array."""
    if name.endswith("num_batches_tracked"):
        return "num_batches_tracked"
    return name.partition(".")[0]


def _names(what, names):
    if not names:
        return f"none {what}"
    shown = ", ".join(sorted(names)[:4])
    more = ", ..." if len(names) > 4 else ""
    return f"{len(names)} {what} ({shown}{more})"
