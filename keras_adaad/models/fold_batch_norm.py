"""Folds BatchNorm into the convolutions before it, for deployment."""

import keras
from keras import layers

from keras_adaad.checks.models import check_model
from keras_adaad.frozen import folding
from keras_adaad.models.copying import check_copy
from keras_adaad.models.copying import copy_state


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a copy of the model without the BatchNorm after convolutions.

    In inference mode BatchNorm is a scale and a shift per channel. They are
    merged into the kernel and bias of the `Conv2D` or `DepthwiseConv2D` before
    it. The logits are the same up to rounding. The copy is faster, but only
    meant for inference. The attacks do this by themselves, in every batch.

    Args:
        model: A built Functional or Sequential `keras.Model`. Nested models
            are folded too. A BatchNorm without a convolution before it is
            kept, and so are layers with LoRA.

    Returns:
        A Functional `keras.Model` with weights of its own.

    Raises:
        ValueError: If `model` is a subclassed model, or is quantized.

    Example:

    ```python
    student = keras_adaad.models.fold_batch_norm(distiller.student)
    student.export("student")
    ```
    """
    check_model("model", model, allow_probabilities=True)
    graph = folding.fold_graph(model)
    if graph is None:
        raise ValueError(
            "Argument `model` must be a Functional or Sequential model: the "
            "layers of a subclassed model cannot be seen, and those of a "
            "quantized one do not fold. "
            f"Received: {model.name!r} ({type(model).__name__})"
        )
    _, folds = graph
    batch_norms = {id(conv): batch_norm for conv, batch_norm in folds}
    gone = {id(batch_norm) for batch_norm in batch_norms.values()}
    copies = []

    def copy(layer):
        if isinstance(layer, keras.Model) and folding.graph_operations(layer):
            return _clone(layer, copy)
        config = layer.get_config()
        if id(layer) in gone:
            return _Gone(name=layer.name)
        if batch_norms.get(id(layer)) is not None:
            config["use_bias"] = True
        copies.append((layer, type(layer).from_config(config)))
        return copies[-1][1]

    folded = _clone(model, copy)
    for layer, clone in copies:
        batch_norm = batch_norms.get(id(layer))
        if batch_norm is not None:
            kernel, bias = folding.fold(layer, batch_norm).values()
            clone.kernel.assign(kernel)
            clone.bias.assign(bias)
        elif isinstance(layer, layers.Layer):
            copy_state(layer, clone)
    check_copy(model, folded)
    return folded


class _Gone(layers.Identity):
    """Placeholder for a folded BatchNorm, whose call is skipped."""


def _clone(model, copy):
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    return keras.models.clone_model(
        model, clone_function=copy, call_function=_call_unless_gone
    )


def _call_unless_gone(layer, *args, **kwargs):
    return args[0] if isinstance(layer, _Gone) else layer(*args, **kwargs)
