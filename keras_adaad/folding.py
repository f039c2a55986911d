"""A model's twin for the attack: the same logits in inference mode, faster.

Throughout an attack the weights are constants. So BatchNorm, in inference mode
a scale and a shift per channel, is folded into the convolution before it, once
per attack instead of in each of its forward passes; zero padding is left to the
convolution after it; and convolutions run as `backend.conv2d` and
`backend.depthwise_conv2d` run them.
"""

import collections
import functools
import inspect
import weakref

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad.gradient_scaling import with_scaled_gradient

# The twin of each model and its folds, kept as long as the model lives.
_TWINS = weakref.WeakKeyDictionary()


def folded(model):
    """Returns `x -> model(x)` in inference mode, with the present weights.

    Args:
        model: A built `keras.Model`. Functional and Sequential models are
            folded, and such models inside them; others run as they are.

    Returns:
        A function without side effects: state that the model would change is
        computed and dropped.
    """
    values = weights(model)
    return lambda x: call(model, values, x)


def weights(model):
    """Returns the present values of the model's variables, folded: a list."""
    _, folds = prepare(model)
    values = {}
    for conv, batch_norm in folds:
        values.update(fold(conv, batch_norm))
    # Constants, or PyTorch's compiler would compute their gradients too.
    return [
        ops.stop_gradient(values.get(id(v), v.value)) for v in _variables(model)
    ]


def call(model, values, x):
    """Returns the logits of a model with `values`, as `weights` gives them."""
    twin, _ = prepare(model)
    mapping = list(zip(_variables(model), values, strict=True))

    def run(x):
        with keras.StatelessScope(state_mapping=mapping):
            return twin(x, **_inference_mode(twin))

    return with_scaled_gradient(run, x) if uses_float16(model) else run(x)


def random_states(model):
    """Returns the places in `weights(model)` that hold random state."""
    return [
        place
        for place, variable in enumerate(_variables(model))
        if variable.name == "seed_generator_state"
    ]


def prepare(model):
    """Makes the twin of a model, once, outside any compiled function.

    Args:
        model: A built `keras.Model`.

    Returns:
        A tuple `(twin, folds)`, where `folds` is a list of the convolutions
        and the BatchNorm, or `None`, that is folded into each.
    """
    if model not in _TWINS:
        folds = []
        twin = _twin(model, folds)
        # A model that is its own twin must not keep itself alive here.
        _TWINS[model] = (None if twin is model else twin, folds)
    twin, folds = _TWINS[model]
    return twin or model, folds


def uses_float16(layer):
    """Returns whether a layer, or one inside it, computes in float16."""
    return layer.compute_dtype == "float16" or any(
        uses_float16(inner) for inner in getattr(layer, "layers", [])
    )


def _variables(model):
    return model.trainable_variables + model.non_trainable_variables


def fold(conv, batch_norm):
    """Returns the folded values by the identity of the variables they replace.

    Kernel and bias `k, b` of the convolution and BatchNorm's `gamma, beta,
    mean, variance` become one kernel, `k * scale`, in place of `k`, and one
    bias, `beta + (b - mean) * scale`, in place of `beta`, where
    `scale = gamma / sqrt(variance + epsilon)`.
    """
    kernel = _precise(conv.kernel)
    depthwise = isinstance(conv, keras.layers.DepthwiseConv2D)
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


def _inference_mode(layer):
    takes_training = "training" in inspect.signature(layer.call).parameters
    return {"training": False} if takes_training else {}


# The stand-ins are operations, not layers: they own no variables, and a call
# costs PyTorch a tenth of what a layer's call does.


class _Same(keras.Operation):
    """Stands for a layer: the same computation, the same variables."""

    def __init__(self, layer):
        super().__init__(name=layer.name)
        self.layer = layer
        self.mode = _inference_mode(layer)
        # In lower precision, the layer's own call casts inputs and weights.
        casts = layer.compute_dtype != "float32"
        self.function = layer if casts else layer.call

    def call(self, *args, **kwargs):
        return self.function(*args, **{**kwargs, **self.mode})

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)


class _Conv2D(keras.Operation):
    """Stands for a convolution, with what is folded into it.

    That is the BatchNorm after it and the zero padding before it.
    """

    def __init__(self, conv, batch_norm=None, padding=None):
        super().__init__(name=conv.name)
        self.conv = conv
        self.batch_norm = batch_norm
        self.padding = padding or conv.padding
        depthwise = isinstance(conv, keras.layers.DepthwiseConv2D)
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
    """Stands for a layer that has been folded away."""

    def call(self, x, mask=None):
        return x


def _twin(model, folds):
    if not _operations(model):
        return model
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    batch_norms, paddings = _foldable(model)
    gone = {id(layer) for layer in (*batch_norms.values(), *paddings.values())}

    def stand_in(layer):
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(layer.get_config())
        if id(layer) in gone:
            return _Nothing(name=layer.name)
        if _is_plain_conv(layer):
            folds.append((layer, batch_norms.get(id(layer))))
            pad = paddings.get(id(layer))
            return _Conv2D(*folds[-1], padding=pad and pad.padding)
        if isinstance(layer, keras.Model) and _operations(layer):
            return _twin(layer, folds)
        return _Same(layer)

    twin = keras.models.clone_model(
        model, clone_function=stand_in, call_function=_call_unless_gone
    )
    # A layer of lower precision casts for itself; the others stay float32.
    twin.dtype_policy = "float32"
    return twin


def _call_unless_gone(layer, *args, **kwargs):
    return args[0] if isinstance(layer, _Nothing) else layer(*args, **kwargs)


def _operations(model):
    """Returns the operations of a Functional or Sequential model, else []."""
    # A class with a `call` of its own computes something else than its graph.
    if type(model).call.__module__.split(".")[0] != "keras":
        return []
    if isinstance(model, keras.Sequential):
        return model.layers
    return getattr(model, "operations", [])


def _foldable(model):
    """Returns what folds into convolutions, by the identity of these.

    That is a dict of each one's BatchNorm, which must be alone in taking the
    output of the convolution, and a dict of each one's zero padding, whose
    output the convolution must be alone in taking.
    """
    uses = collections.Counter(id(tensor) for tensor in model.outputs)
    producers = {}
    for operation in _operations(model):
        # The public `input` shows the first call of an operation only.
        for node in operation._inbound_nodes:
            uses.update(id(tensor) for tensor in node.input_tensors)
        if len(operation._inbound_nodes) == 1:
            producers[id(operation.output)] = operation
    batch_norms, paddings = {}, {}
    for layer in producers.values():
        if not isinstance(layer, keras.layers.Layer) or not _has_one_input(
            layer
        ):
            continue
        before = producers.get(id(layer.input))
        if uses[id(layer.input)] != 1:
            continue
        if isinstance(layer, keras.layers.BatchNormalization):
            if _folds_into(layer, before):
                batch_norms[id(before)] = layer
        elif _pads(before, layer):
            paddings[id(layer)] = before
    return batch_norms, paddings


def _has_one_input(layer):
    return isinstance(layer.input, keras.KerasTensor)


def _pads(padding, conv):
    return (
        type(padding) is keras.layers.ZeroPadding2D
        and _is_plain_conv(conv)
        and conv.padding == "valid"
        and conv.data_format == padding.data_format
        and getattr(conv, "groups", 1) == 1
    )


def _folds_into(batch_norm, conv):
    if not _is_plain_conv(conv):
        return False
    axis = 3 if conv.data_format == "channels_last" else 1
    return (
        conv.activation is keras.activations.linear
        and batch_norm.compute_dtype == conv.compute_dtype
        and batch_norm.axis in (axis, axis - 4)
        and batch_norm.center
    )


def _is_plain_conv(layer):
    if type(layer) is keras.layers.Conv2D:
        return layer.padding in ("same", "valid")
    return (
        type(layer) is keras.layers.DepthwiseConv2D
        and len(set(layer.strides)) == 1
        and set(layer.dilation_rate) == {1}
    )
