"""Adapts other networks to take images in [0, 1] and return logits."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_adaad.backend import keras_private
from keras_adaad.checks.models import check_model
from keras_adaad.models.copying import copy_model
from keras_adaad.models.copying import copy_state
from keras_adaad.models.network import check_statistics


def logits(model: keras.Model) -> keras.Model:
    """Returns the model without its final softmax.

    Attacks and losses need logits, because a saturated softmax hides the
    gradient. The softmax may be a layer, an operation or an activation, also
    at the end of a nested model. All layers are shared with `model`, with one
    exception: a last layer that has the softmax as its own activation, such as
    `Dense(10, activation="softmax")`, is copied without it.

    KerasHub tasks return logits by default, and are returned unchanged. Their
    preprocessor runs in `fit` and `predict` only. Preprocess the images outside
    the model, or by layers inside it, as `with_normalization` does.

    Args:
        model: A Functional or Sequential `keras.Model`.

    Returns:
        A `keras.Model` that returns logits; `model` itself if it already does.

    Raises:
        ValueError: If `model` is a subclassed model, or other layers follow
            its softmax.

    Example:

    ```python
    student = keras_adaad.models.logits(keras.applications.MobileNetV2())
    ```
    """
    check_model("model", model, allow_probabilities=True)
    _check_graph(
        model,
        "the softmax of a subclassed model cannot be seen. Remove it in its "
        "`call`",
    )
    last, inputs = _last_call(model)
    if isinstance(last, keras.Model):
        inner = logits(last)
        if inner is last:
            return model
        outputs = inner(inputs)
    elif _is_softmax(last):
        outputs = inputs
    elif _is_softmax(getattr(last, "activation", None)):
        outputs = inputs
        if not isinstance(last, layers.Activation):
            outputs = _without_activation(last)(inputs)
    else:
        # A softmax further inside can't be removed.
        check_model("model", model)
        return model
    return keras.Model(model.inputs, outputs, name=model.name)


def with_normalization(
    model: keras.Model, mean: Sequence[float], std: Sequence[float]
) -> keras.Model:
    """Returns the model with an input normalisation in front.

    The new model takes images in [0, 1], so that epsilon has the same meaning
    as in the papers, and passes `(x - mean) / std` to `model`. For a model that
    takes values from 0 to 255, use 0 as `mean` and 1/255 as `std`, per channel.

    Args:
        model: A built `keras.Model` from images to logits. It is shared, not
            copied.
        mean, std: One value per channel, in the units of the new input.

    Returns:
        A `keras.Model` from images in [0, 1] to the outputs of `model`.

    Raises:
        ValueError: If the statistics do not fit the channels of the images.

    Example:

    ```python
    student = keras_adaad.models.with_normalization(
        backbone, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    ```
    """
    check_model("model", model, allow_probabilities=True)
    shape = getattr(model, "input_shape", None)
    if shape is None or len(shape) != 4:
        raise ValueError(
            "Argument `model` must be built, for images. "
            f"Received: model.input_shape={shape}"
        )
    fits = [axis for axis in (-1, 1) if shape[axis] == len(mean)]
    axis = fits[0] if fits else -1
    check_statistics(mean, std, shape[axis])
    inputs = keras.Input(shape[1:], name="images")
    normalization = layers.Normalization(
        axis=axis, mean=list(mean), variance=[s**2 for s in std]
    )
    outputs = model(normalization(inputs))
    return keras.Model(inputs, outputs, name=f"normalized_{model.name}")


def with_dtype(model: keras.Model, dtype: str) -> keras.Model:
    """Returns a copy of the model that computes under another dtype policy.

    A teacher that was trained or converted in float32 is much cheaper in
    bfloat16, if the hardware supports it. Its weights stay float32, and the
    student may have another policy.

    Args:
        model: A Functional or Sequential `keras.Model`.
        dtype: Dtype policy: "mixed_bfloat16", "mixed_float16", "float32", ...

    Returns:
        A `keras.Model` with weights of its own.

    Raises:
        ValueError: If `model` is a subclassed model, or is quantized.

    Example:

    ```python
    teacher = keras_adaad.zoo.load_robustbench(name, checkpoint=path)
    teacher = keras_adaad.models.with_dtype(teacher, "mixed_bfloat16")
    distiller = keras_adaad.AdaAD(teacher, student)
    ```
    """
    check_model("model", model, allow_probabilities=True)
    _check_graph(
        model,
        "another dtype cannot be given to the layers of a subclassed model. "
        "Build it with this dtype",
    )
    return copy_model(model, dtype)


def _check_graph(model, reason):
    if not getattr(model, "outputs", None):
        raise ValueError(
            f"Argument `model` must be a Functional or Sequential model: "
            f"{reason}. Received: {model.name!r} ({type(model).__name__})"
        )


def _last_call(model):
    """Returns the operation that computes a model's output, and its input."""
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    (output,) = model.outputs
    # The public `input` of a nested model is that of its first call.
    return next(
        (operation, node.input_tensors[0])
        for operation in model.operations
        for node in keras_private.calls_of(operation)
        if any(tensor is output for tensor in node.output_tensors)
    )


def _is_softmax(function):
    """Returns whether a layer, an operation or an activation is a softmax."""
    if isinstance(function, layers.Activation):
        return False
    name = getattr(function, "__name__", type(function).__name__)
    return name.lower() == "softmax"


def _without_activation(layer):
    copy = type(layer).from_config({**layer.get_config(), "activation": None})
    copy.build(layer.input.shape)
    copy_state(layer, copy)
    return copy
