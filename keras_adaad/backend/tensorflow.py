"""The TensorFlow backend."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

from keras_adaad.backend import keras_private
from keras_adaad.backend.perturbed_weights import perturbed_until_update

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
    # Zero, not `None`, if an operation has no gradient (a rounding).
    return tape.gradient(
        total, x, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def gradients(function, values):
    """Returns the gradient of a scalar function, the mean over the replicas."""
    values = [tf.convert_to_tensor(value) for value in values]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        total = function(values)
    return _mean_over_replicas(_gradient(tape, total, values))


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
    """Replaces the batch with its views, then runs Keras's own step on them.

    With `make_offsets`, the gradient is that at the weights plus the offsets.
    """
    if model.compiles_attack and not model.jit_compile:
        make_views = tf.function(make_views, jit_compile=True, autograph=False)
    data = make_views(_with_images(data, model.input_range))
    if make_offsets is None:
        logs = keras_step(data)
    else:
        with perturbed_until_update(model, make_offsets(data)):
            logs = keras_step(data)
    if model.learning and _several_replicas():
        for network in model.trained_networks():
            _share_statistics(network)
    return _as_reduced(logs)


def _with_images(data, input_range):
    """Returns the data of a replica, or one invalid image if it has none.

    Without images BatchNorm has no statistics, and TensorFlow's convolutions
    return wrong shapes. An error here would leave the other replicas waiting,
    and a later `fit` may then hang. The loss of an image out of range is NaN,
    for which `fit` and `evaluate` raise.
    """
    if not _several_replicas():
        return data
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    missing = tf.maximum(1 - tf.shape(x)[0], 0)
    low, high = input_range

    def padded(values, value=0):
        shape = tf.concat([[missing], tf.shape(values)[1:]], axis=0)
        rows = tf.fill(shape, tf.cast(value, values.dtype))
        return tf.concat([values, rows], axis=0)

    x = padded(tf.cast(x, "float32"), low - (high - low))
    y = None if y is None else padded(y)
    if sample_weight is not None:
        sample_weight = padded(sample_weight)
    return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)


def _share_statistics(network):
    """Sets the statistics of every replica to their mean over all replicas.

    Keras keeps one set for each replica, and evaluates and saves one of them.
    """
    variables = [
        v for v in network.non_trainable_variables if v.value.dtype.is_floating
    ]
    # Copies, because a plain read of a variable has no device to reduce on.
    means = _mean_over_replicas([tf.identity(v.value) for v in variables])
    for variable, mean in zip(variables, means, strict=True):
        variable.assign(mean)


def _mean_over_replicas(values):
    if not values or not _several_replicas():
        return values
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)


def _several_replicas():
    return tf.distribute.get_strategy().num_replicas_in_sync > 1


def _as_reduced(logs):
    """Adds an axis to logs: in a cluster Keras averages along it."""
    if not _in_cluster(tf.distribute.get_strategy()):
        return logs
    return {name: tf.reshape(value, (1,)) for name, value in logs.items()}


def _in_cluster(strategy):
    kind = tf.distribute.MultiWorkerMirroredStrategy
    # Without a cluster it is a strategy for the devices of one process.
    return isinstance(strategy, kind) and bool(
        strategy.cluster_resolver.cluster_spec()
    )


class Model(keras_private.SymbolicBuildHook):
    """A `keras.Model` that also trains on several devices where Keras fails.

    Keras 3 fails under `MultiWorkerMirroredStrategy`
    ([#20585](https://github.com/keras-team/keras/issues/20585)), on a first
    batch that does not divide evenly, and with `jit_compile=True`.
    """

    # XLA compiles for one device, but Keras would compile the step over all.
    # So each replica compiles only its attack, which is nearly all the work.
    compiles_attack = keras.Model.jit_compile

    @property
    def jit_compile(self):
        several = self.distribute_strategy.num_replicas_in_sync > 1
        return self.compiles_attack and not several

    @jit_compile.setter
    def jit_compile(self, value):
        self.compiles_attack = value

    def before_symbolic_build(self, iterator, data_batch):
        strategy = self.distribute_strategy
        if _in_cluster(strategy) and tf.distribute.has_strategy():
            raise ValueError(
                "Call `fit` and `evaluate` outside of `strategy.scope()`: one "
                "process alone writes files, and Keras makes variables as it "
                "does so, which in the scope would wait for all. "
                f"Received: a call inside the scope of {strategy!r}"
            )
        several = strategy.num_replicas_in_sync > 1 or _in_cluster(strategy)
        if iterator is not None and several:
            # Keras would average the parts of a batch to get its shapes.
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(
                lambda values: strategy.experimental_local_results(values)[0],
                next(batches),
            )
            iterator = None
        elif iterator is not None:
            keras_private.change_dataset(iterator, _without_tuning)
            self._build_before_tracing(keras_private.data_spec(iterator))
        else:
            self._build_before_tracing(data_batch)
        return iterator, data_batch

    def _build_before_tracing(self, data):
        """Halves the time that the first step takes to trace."""
        _, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if y is not None:
            y = keras.KerasTensor(
                y.shape, keras.backend.standardize_dtype(y.dtype)
            )
        keras_private.build_before_tracing(self, y)


def _without_tuning(dataset):
    """Returns a `tf.data.Dataset` whose iterator ends without delay.

    A thread tunes the pipeline, and sleeps for longer and longer, up to a
    minute. At the end of an epoch, TensorFlow 2.21 wakes the thread before it
    sets the flag that the thread checks. So about half of all epochs end only
    when the thread's sleep ends. Explicitly enabled autotuning is left on.
    """
    if not isinstance(dataset, tf.data.Dataset):
        return dataset  # A distributed data set, which has no options.
    if dataset.options().autotune.enabled is not None:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def compile_function(
    function, model=None, jit_compile="auto", run_eagerly=False
):
    """Returns `function` compiled."""
    run = function
    if not run_eagerly:
        run = tf.function(
            # A new object: TensorFlow would mistake several programs from one
            # line of code for a single one that it retraces, and warn.
            functools.partial(function),
            jit_compile=True if jit_compile is True else None,
            autograph=False,
            reduce_retracing=True,
        )

    def compiled(*args):
        return run(*keras.tree.map_structure(_tensor, args))

    return compiled


def describe():
    """Returns the device and its matmul precision, as strings."""
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


@contextlib.contextmanager
def full_precision():
    config = tf.config.experimental
    enabled = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(enabled)


def building_scope(model):
    """Returns the scope in which the variables of `model` are created."""
    return model.distribute_strategy.scope()


def replica_count():
    """Returns the number of replicas of the strategy in scope."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_index():
    """Returns the index of this replica of a `tf.distribute` strategy."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def lay_out_kernel(kernel):
    """Returns a kernel with the memory layout that `conv2d` reads."""
    return kernel


def conv2d(x, kernel, bias, **options):
    """Convolves as Keras does, and also takes explicit padding.

    `padding` may be two pairs: the zeros before and after rows and columns.
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
    """Applies explicit padding; returns the images and the padding left to do.

    TensorFlow's convolutions take explicit padding, but it slows down wide
    ones. A depthwise one crashes the process if TensorFlow's optimizer fuses
    it with the bias and the ReLU.
    """
    padding = options["padding"]
    if isinstance(padding, str):
        return x, padding
    none = (0, 0)
    if _layout(options) == "NHWC":
        return tf.pad(x, (none, *padding, none)), "valid"
    return tf.pad(x, (none, none, *padding)), "valid"


def _tensor(value):
    # A Python or NumPy number would become a constant of the graph.
    if isinstance(value, (np.ndarray, np.generic, float, int)):
        return tf.convert_to_tensor(value)
    return value
