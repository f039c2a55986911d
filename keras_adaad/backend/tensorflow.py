"""The TensorFlow seam."""

import keras
import tensorflow as tf


def input_gradient(objective, x):
    """Returns the gradient at `x` of the objective summed over the batch."""
    # Only `x` is watched: no gradient of any weight is ever computed.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        total = tf.reduce_sum(objective(x))
    return tape.gradient(total, x)


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


def views_then_step(keras_step, make_views, model, data):
    """Replaces the batch by its views, then runs Keras's own step on them."""
    return keras_step(make_views(data))


def compile_function(function, model, jit_compile=False, run_eagerly=False):
    """Returns `function` compiled; it takes arrays and returns NumPy."""
    run = function
    if not run_eagerly:
        run = tf.function(
            function,
            jit_compile=jit_compile or None,
            autograph=False,
            reduce_retracing=True,
        )

    def compiled(*args):
        return keras.ops.convert_to_numpy(run(*(_tensor(a) for a in args)))

    return compiled


def building_scope(model):
    """Returns the scope in which the variables of `model` are created."""
    return model.distribute_strategy.scope()


def lay_out_kernel(kernel):
    """Returns a kernel whose memory is ordered as `conv2d` reads it."""
    return kernel


def conv2d(x, kernel, bias, **options):
    """Convolves as Keras does."""
    x = keras.ops.conv(x, kernel, **options)
    if bias is None:
        return x
    channels_last = options["data_format"] == "channels_last"
    return tf.nn.bias_add(x, bias, "NHWC" if channels_last else "NCHW")


def _tensor(array):
    return None if array is None else keras.ops.convert_to_tensor(array)
