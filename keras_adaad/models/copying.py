"""Copies models with all of their state, and checks the copies' logits."""

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_adaad.frozen import network
from keras_adaad.frozen.fingerprint import graph_operations
from keras_adaad.frozen.fingerprint import layers_within
from keras_adaad.frozen.folding import quantization_mode


def copy_model(model, dtype=None, compare=True):
    """Returns a copy of a built model with weights of its own.

    A model that is neither Functional nor Sequential must return its arguments
    from `get_config`. `dtype` overrides the dtype policies of the layers, and
    must be `None` for a quantized model. Raises if the logits of the copy
    differ (see `check_copy`), unless `compare` is `False`.
    """
    if dtype is not None:
        _check_not_quantized(model)
    policy = keras.dtype_policies.get(dtype)

    def copy_layer(layer):
        config = layer.get_config()
        if dtype is not None and isinstance(layer, layers.Layer):
            config["dtype"] = policy
        return type(layer).from_config(config)

    if graph_operations(model):
        copy = keras.models.clone_model(
            model, clone_function=copy_layer, recursive=True
        )
    else:
        copy = keras.models.clone_model(model)
    if not copy.built:
        copy.build_from_config(model.get_build_config())
    copy_state(model, copy)
    if compare:
        check_copy(model, copy)
    return copy


def copy_state(source, target):
    """Copies the state of a model to another one of the same structure."""
    for variable, value in zip(target.weights, source.weights, strict=True):
        # Via the host, because a compiled step may reuse a tensor's memory.
        variable.assign(np.array(ops.convert_to_numpy(value)))
    finalize_state(target)


def finalize_state(model):
    """Updates the tensors that layers derive from their variables.

    `Normalization`, for example, derives its mean and variance only once.
    """
    for layer in layers_within(model):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def check_copy(model, copy):
    """Raises if a copy's logits on random images differ beyond rounding.

    A model without a known input shape is not compared.
    """
    shape = input_shape(model)
    if shape is None:
        return
    shape = [8, *(32 if size is None else size for size in shape[1:])]
    images = np.random.default_rng(0).uniform(size=shape).astype("float32")
    difference = network.relative_difference(model, copy, images)
    allowed = max(network.tolerance(model), network.tolerance(copy))
    if not difference <= allowed:
        raise ValueError(
            f"The copy of {model.name!r} does not return its logits. A layer "
            "has state that is neither a variable nor in its `get_config()`. "
            f"Received: logits that differ by {difference:.2g} of the largest"
        )


def input_shape(model):
    """Returns the shape of the images, or `None` for a model without one."""
    if getattr(model, "inputs", None):
        return model.input_shape
    # A subclassed model records the shape that it was built on.
    return (model.get_build_config() or {}).get("input_shape")


def _check_not_quantized(model):
    for layer in layers_within(model):
        mode = quantization_mode(layer)
        if mode is not None:
            raise ValueError(
                "Argument `model` must not be quantized: the dtype of a "
                "quantized layer is part of its weights. Copy the model "
                "before `quantize`. "
                f"Received: layer {layer.name!r} quantized to {mode}"
            )
