"""A faster graph with a model's logits in inference mode.

The weights are constant throughout an attack. BatchNorm, which is a scale and a
shift per channel in inference mode, is therefore folded into the convolution
before it once per attack, and not run in each forward pass. The convolution
after a zero padding performs the padding. Convolutions run through
`backend.conv2d` and `backend.depthwise_conv2d`.

Only unmodified layers of exactly known types are replaced. All others run as
Keras calls them.
"""

import collections
import contextvars
import functools
import inspect
from typing import Any

import keras
from keras import layers
from keras import ops

from keras_adaad import backend
from keras_adaad.backend import keras_private
from keras_adaad.frozen.fingerprint import graph_operations as graph_operations
from keras_adaad.frozen.fingerprint import layers_within

# Layers whose `__call__` adds nothing to `call` in float32. Running `call`
# directly costs a tenth of it under PyTorch.
_CALLED_DIRECTLY = {
    layers.Activation,
    layers.Add,
    layers.AveragePooling2D,
    layers.BatchNormalization,
    layers.Concatenate,
    layers.Conv2D,
    layers.Dense,
    layers.DepthwiseConv2D,
    layers.Dropout,
    layers.Flatten,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.LeakyReLU,
    layers.MaxPooling2D,
    layers.Multiply,
    layers.Normalization,
    layers.ReLU,
    layers.Rescaling,
    layers.Reshape,
    layers.ZeroPadding2D,
}


def fold_graph(model: Any) -> tuple[Any, list[tuple[Any, Any]]] | None:
    """Returns the folded graph of a model and its folds, or `None`.

    A fold is a pair of a convolution and the BatchNorm, or `None`, that is
    folded into it. A model is not folded if it has no graph, or a quantized
    layer, whose rounding would enlarge a difference in the last digit.
    """
    if not graph_operations(model):
        return None
    if any(
        quantization_mode(layer) is not None for layer in layers_within(model)
    ):
        return None
    folds: list[tuple[Any, Any]] = []
    return _graph(model, folds), folds


def quantization_mode(layer):
    """Returns the mode that a layer is quantized to, or `None`."""
    return getattr(layer, "quantization_mode", None)


def is_plain(layer, *types):
    """Returns whether a layer is an unmodified instance of one of the types.

    Instances of subclasses are not, nor are layers that are quantized, have
    LoRA enabled, or have `call` as an instance attribute.
    """
    return (
        type(layer) in types
        and quantization_mode(layer) is None
        and not getattr(layer, "lora_enabled", False)
        and "call" not in vars(layer)
    )


def fold(conv, batch_norm):
    """Returns a dict from the `id` of each replaced variable to its new value.

    Kernel and bias `k, b` of the convolution and BatchNorm's `gamma, beta,
    mean, variance` become one kernel, `k * scale`, which replaces `k`, and one
    bias, `beta + (b - mean) * scale`, which replaces `beta`, where
    `scale = gamma / sqrt(variance + epsilon)`.
    """
    kernel = _precise(conv.kernel)
    depthwise = type(conv) is layers.DepthwiseConv2D
    lay_out = (lambda k: k) if depthwise else backend.lay_out_kernel
    if batch_norm is None:
        return {id(conv.kernel): lay_out(kernel)}
    variance = _precise(batch_norm.moving_variance)
    scale = ops.rsqrt(variance + batch_norm.epsilon)
    if batch_norm.scale:
        scale *= _precise(batch_norm.gamma)
    shift = -_precise(batch_norm.moving_mean)
    if conv.use_bias:
        shift += _precise(conv.bias)
    # A depthwise kernel has the output channels on two axes.
    scales = ops.reshape(scale, kernel.shape[2:]) if depthwise else scale
    return {
        id(conv.kernel): lay_out(kernel * scales),
        id(batch_norm.beta): _precise(batch_norm.beta) + shift * scale,
    }


def _precise(variable):
    dtype = keras.backend.result_type(variable.dtype, "float32")
    return ops.cast(variable, dtype)


def inference_mode(layer):
    """Returns the arguments that run a layer in inference mode."""
    takes_training = "training" in inspect.signature(layer.call).parameters
    return {"training": False} if takes_training else {}


# Function that is called with each stand-in that runs, its arguments and its
# outputs.
observer: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "observer", default=None
)

# The stand-ins are operations, not layers: they own no variables, and calling
# one costs a tenth of calling a layer under PyTorch.


class _StandIn(keras.Operation):
    """Computes a sequence of `layers` in inference mode."""

    def __init__(self, *layers):
        # Named after the last layer, whose outputs it returns.
        super().__init__(name=layers[-1].name)
        self.layers = layers
        self.modes = [inference_mode(layer) for layer in layers]

    def __call__(self, *args, **kwargs):
        outputs = super().__call__(*args, **kwargs)
        observe = observer.get()
        if observe is not None:
            observe(self, args, kwargs, outputs)
        return outputs

    def original(self, *args, **kwargs):
        """Returns the outputs of the layers, as Keras calls them."""
        first, *others = zip(self.layers, self.modes, strict=True)
        outputs = first[0](*args, **{**kwargs, **first[1]})
        for layer, mode in others:
            outputs = layer(outputs, **mode)
        return outputs


class _Layer(_StandIn):
    """Replaces a layer by the same computation with the same variables."""

    def __init__(self, layer):
        super().__init__(layer)
        # In lower precision, the layer's own call casts inputs and weights.
        direct = layer.compute_dtype == "float32" and is_plain(
            layer, *_CALLED_DIRECTLY
        )
        self.function = layer.call if direct else layer

    def call(self, *args, **kwargs):
        return self.function(*args, **{**kwargs, **self.modes[0]})

    def compute_output_spec(self, *args, **kwargs):
        return self.layers[0].compute_output_spec(*args, **kwargs)


class _Conv2D(_StandIn):
    """Replaces a convolution, and the padding and BatchNorm folded into it."""

    def __init__(self, conv, batch_norm=None, padding=None):
        parts = (padding, conv, batch_norm)
        super().__init__(*(part for part in parts if part is not None))
        self.conv = conv
        self.batch_norm = batch_norm
        self.padding = padding.padding if padding else conv.padding
        depthwise = type(conv) is layers.DepthwiseConv2D
        self.function = (
            backend.depthwise_conv2d if depthwise else backend.conv2d
        )

    def call(self, x):
        conv, bias = self.conv, None
        if self.batch_norm is not None:
            bias = self.batch_norm.beta
        elif conv.use_bias:
            bias = conv.bias
        cast = functools.partial(ops.cast, dtype=conv.compute_dtype)
        x = self.function(
            cast(x),
            cast(conv.kernel),
            bias if bias is None else cast(bias),
            strides=conv.strides,
            padding=self.padding,
            data_format=conv.data_format,
            dilation_rate=conv.dilation_rate,
        )
        return conv.activation(x)

    def compute_output_spec(self, x):
        if self.padding != self.conv.padding:
            shape = list(x.shape)
            axis = 1 if self.conv.data_format == "channels_last" else 2
            for place, pads in enumerate(self.padding, axis):
                shape[place] += sum(pads)
            x = keras.KerasTensor(shape, x.dtype)
        return self.conv.compute_output_spec(x)


class _Nothing(keras.Operation):
    """Replaces a layer that has been folded into a convolution."""

    def call(self, x, mask=None):
        return x


def _graph(model: Any, folds: list[tuple[Any, Any]]) -> Any:
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    batch_norms, paddings = _foldable(model)
    gone = {id(layer) for layer in (*batch_norms.values(), *paddings.values())}

    def stand_in(layer):
        if not isinstance(layer, layers.Layer):
            return type(layer).from_config(layer.get_config())
        if id(layer) in gone:
            return _Nothing(name=layer.name)
        if _is_convolution(layer):
            folds.append((layer, batch_norms.get(id(layer))))
            return _Conv2D(*folds[-1], padding=paddings.get(id(layer)))
        if isinstance(layer, keras.Model) and graph_operations(layer):
            return _graph(layer, folds)
        return _Layer(layer)

    graph = keras.models.clone_model(
        model, clone_function=stand_in, call_function=_call_unless_gone
    )
    # Layers of lower precision cast their inputs; the others stay in float32.
    graph.dtype_policy = "float32"
    return graph


def _call_unless_gone(layer, *args, **kwargs):
    return args[0] if isinstance(layer, _Nothing) else layer(*args, **kwargs)


def _foldable(model):
    """Returns the layers that fold into convolutions.

    The keys of both dicts are the `id`s of the convolutions. The first dict
    holds each one's BatchNorm, which must be the only layer that uses the
    convolution's output. The second holds each one's zero padding, whose output
    only the convolution may use.
    """
    uses = collections.Counter(id(tensor) for tensor in model.outputs)
    producers = {}
    for operation in graph_operations(model):
        nodes = keras_private.calls_of(operation)
        for node in nodes:
            uses.update(id(tensor) for tensor in node.input_tensors)
        if len(nodes) == 1:
            producers[id(operation.output)] = operation
    batch_norms, paddings = {}, {}
    for layer in producers.values():
        if not isinstance(layer, layers.Layer) or not _has_one_input(layer):
            continue
        before = producers.get(id(layer.input))
        if uses[id(layer.input)] != 1:
            continue
        if is_plain(layer, layers.BatchNormalization):
            if _folds_into(layer, before):
                batch_norms[id(before)] = layer
        elif _pads(before, layer):
            paddings[id(layer)] = before
    return batch_norms, paddings


def _has_one_input(layer):
    return isinstance(layer.input, keras.KerasTensor)


def _pads(padding, conv):
    return (
        is_plain(padding, layers.ZeroPadding2D)
        and _is_convolution(conv)
        and conv.padding == "valid"
        and conv.data_format == padding.data_format
        and getattr(conv, "groups", 1) == 1
    )


def _folds_into(batch_norm, conv):
    if not _is_convolution(conv):
        return False
    axis = 3 if conv.data_format == "channels_last" else 1
    return (
        conv.activation is keras.activations.linear
        and batch_norm.compute_dtype == conv.compute_dtype
        and batch_norm.axis in (axis, axis - 4)
        and batch_norm.center
    )


def _is_convolution(layer):
    if is_plain(layer, layers.Conv2D):
        return layer.padding in ("same", "valid")
    return (
        is_plain(layer, layers.DepthwiseConv2D)
        and len(set(layer.strides)) == 1
        and set(layer.dilation_rate) == {1}
    )
