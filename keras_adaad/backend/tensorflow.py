"""The TensorFlow seam."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

# Whether a program is compiled for each shape of its arguments.
STATIC_SHAPES = True


def value_and_input_gradient(function, x):
    """Returns values, the rest, and the gradient of the summed values."""
    with _watching(x) as tape:
        values, rest = function(x)
        total = tf.reduce_sum(values)
    return values, rest, _gradient(tape, total, x)


def input_jacobian(function, x):
    """Returns values, the rest, and the gradient of every column of values."""
    with _watching(x, persistent=True) as tape:
        values, rest = function(x)
        totals = tf.unstack(tf.reduce_sum(values, axis=0))
    gradients = [_gradient(tape, total, x) for total in totals]
    return values, rest, tf.stack(gradients, axis=1)


@contextlib.contextmanager
def _watching(x, persistent=False):
    # Only `x` is watched: no gradient of any weight is ever computed.
    with tf.GradientTape(
        persistent=persistent, watch_accessed_variables=False
    ) as tape:
        tape.watch(x)
        yield tape


def _gradient(tape, total, x):
    # Zero, not `None`, through an operation without a gradient (a rounding).
    return tape.gradient(
        total, x, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def gradients(function, values):
    """Returns the gradient of a scalar function at a list of tensors."""
    values = [tf.convert_to_tensor(value) for value in values]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        total = function(values)
    return _gradient(tape, total, values)


def repeat(steps, body, x):
    """Applies `x = body(x)`, `steps` times."""
    # A loop in the graph runs as fast as the unrolled steps, and is traced
    # `steps` times faster.
    _, x = tf.while_loop(
        lambda step, _: step < steps,
        lambda step, x: (step + 1, body(x)),
        (tf.constant(0), x),
        maximum_iterations=steps,
    )
    return x


def views_then_step(keras_step, make_views, model, data, make_offsets=None):
    """Replaces the batch by its views, then runs Keras's own step on them.

    With `make_offsets`, that is run at the weights plus the offsets.
    """
    data = make_views(data)
    if make_offsets is None:
        return keras_step(data)
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise ValueError(
            "`weight_perturbation` needs one device: each replica would move "
            "the shared weights by the gradient of its own part of the batch."
        )
    offsets = make_offsets(data)
    _add(model, offsets, 1.0)
    logs = keras_step(data)
    _add(model, offsets, -1.0)
    return logs


def _add(model, offsets, sign):
    for v, offset in zip(model.trainable_variables, offsets, strict=True):
        if offset is not None:
            v.assign_add(sign * offset)


def compile_function(
    function, model=None, jit_compile=False, run_eagerly=False
):
    """Returns `function` compiled."""
    run = function
    if not run_eagerly:
        run = tf.function(
            # Not the function itself: TensorFlow would take programs made from
            # one line of code for one that is traced again and again, and warn.
            functools.partial(function),
            jit_compile=jit_compile or None,
            autograph=False,
            reduce_retracing=True,
        )

    def compiled(*args):
        return run(*keras.tree.map_structure(_tensor, args))

    return compiled


def describe():
    """Returns what computes, and how precisely, as strings."""
    gpus = tf.config.list_physical_devices("GPU")
    tensor_float = tf.config.experimental.tensor_float_32_execution_enabled()
    return {
        "device": tf.config.experimental.get_device_details(gpus[0]).get(
            "device_name", "gpu"
        )
        if gpus
        else "cpu",
        "matmul precision": "tf32" if gpus and tensor_float else "highest",
    }


def building_scope(model):
    """Returns the scope in which the variables of `model` are created."""
    return model.distribute_strategy.scope()


def replica_index():
    """Returns which replica of a `tf.distribute` strategy runs this."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def lay_out_kernel(kernel):
    """Returns a kernel whose memory is ordered as `conv2d` reads it."""
    return kernel


def conv2d(x, kernel, bias, **options):
    """Convolves as Keras does, or with the padding on each side that is given.

    Args:
        x: Images.
        kernel: Tensor of shape `(rows, columns, channels, filters)`.
        bias: Tensor of shape `(filters,)`, or `None`.
        **options: `strides`, `dilation_rate` and `data_format` as in
            `keras.ops.conv`, and `padding`: "same", "valid", or the number of
            zeros before and after the rows and the columns.
    """
    x, padding = _padded(x, options)
    x = keras.ops.conv(x, kernel, **{**options, "padding": padding})
    return x if bias is None else tf.nn.bias_add(x, bias, _layout(options))


def depthwise_conv2d(x, kernel, bias, **options):
    """Convolves each channel."""
    x, padding = _padded(x, options)
    layout, (stride, _) = _layout(options), options["strides"]
    steps = (
        (1, stride, stride, 1) if layout == "NHWC" else (1, 1, stride, stride)
    )
    x = tf.nn.depthwise_conv2d(x, kernel, steps, padding.upper(), layout)
    return x if bias is None else tf.nn.bias_add(x, bias, layout)


def _layout(options):
    return "NHWC" if options["data_format"] == "channels_last" else "NCHW"


def _padded(x, options):
    """Returns the images and the padding that is left to the convolution.

    TensorFlow's convolutions take explicit padding, but a wide one is slower
    then, and a depthwise one that its optimizer fuses with the bias and the
    ReLU ends the process.
    """
    padding = options["padding"]
    if isinstance(padding, str):
        return x, padding
    none = (0, 0)
    if _layout(options) == "NHWC":
        return tf.pad(x, (none, *padding, none)), "valid"
    return tf.pad(x, (none, none, *padding)), "valid"


def _tensor(value):
    # A number of Python or NumPy would be a constant of the graph.
    if isinstance(value, (np.ndarray, np.generic, float, int)):
        return tf.convert_to_tensor(value)
    return value
