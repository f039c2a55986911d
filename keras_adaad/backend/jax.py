"""The JAX backend."""

import contextlib

import jax
import keras
from jax.experimental import multihost_utils

STATIC_SHAPES = True


def value_and_input_gradient(function, x):
    """Returns values, the rest, and the gradient of the summed values."""

    def total(x):
        values, rest = function(x)
        return values.sum(), (values, rest)

    gradient, (values, rest) = jax.grad(total, has_aux=True)(x)
    return values, rest, gradient


def input_jacobian(function, x):
    """Returns values, the rest, and the gradient of every column of values."""
    values, pull_back, rest = jax.vjp(function, x, has_aux=True)
    columns = jax.numpy.eye(values.shape[-1], dtype=values.dtype)
    gradients = [
        pull_back(jax.numpy.broadcast_to(column, values.shape))[0]
        for column in columns
    ]
    return values, rest, jax.numpy.stack(gradients, axis=1)


def gradients(function, values):
    """Returns the gradient of a scalar function at a list of tensors."""
    return jax.grad(function)(values)


def repeat(steps, body, x):
    """Applies `x = body(x)`, `steps` times."""
    # XLA on CPU runs a convolution inside a loop on one thread: unroll there.
    if not _on_cpu():
        return jax.lax.fori_loop(0, steps, lambda _, x: body(x), x)
    body = jax.jit(body)  # Traced once; XLA inlines the calls.
    for _ in range(steps):
        x = body(x)
    return x


def views_then_step(
    keras_step, make_views, model, state, data, make_offsets=None
):
    """Replaces the batch with its views, then runs Keras's own step on them.

    With `make_offsets`, the gradient is that at the weights plus the offsets.
    """
    trainable, non_trainable, *rest = state
    variables = model.trainable_variables + model.non_trainable_variables
    mapping = list(zip(variables, trainable + non_trainable, strict=True))
    with keras.StatelessScope(state_mapping=mapping) as scope:
        data = make_views(data)
        offsets = make_offsets(data) if make_offsets else None
    # The attack changes only the state of the seed generator it draws from.
    non_trainable = [
        scope.get_current_value(v) for v in model.non_trainable_variables
    ]
    if offsets is None:
        return keras_step((trainable, non_trainable, *rest), data)
    perturbed = [
        value if offset is None else value + offset
        for value, offset in zip(trainable, offsets, strict=True)
    ]
    optimizer = model.optimizer
    update = optimizer.stateless_apply
    # The optimizer updates, constrains and averages the weights themselves.
    optimizer.stateless_apply = lambda variables, gradients, _: update(
        variables, gradients, trainable
    )
    try:
        return keras_step((perturbed, non_trainable, *rest), data)
    finally:
        del optimizer.stateless_apply


class Model(keras.Model):
    """A `keras.Model` that trains with all penalties of its networks."""

    def stateless_call(
        self,
        trainable_variables,
        non_trainable_variables,
        *args,
        return_losses=False,
        **kwargs,
    ):
        """Calls the model through `__call__`, as the other backends do.

        Keras runs `call` directly here. Then each network drops the penalties
        of its last run when the next run begins.
        """
        variables = self.trainable_variables + self.non_trainable_variables
        values = [*trainable_variables, *non_trainable_variables]
        with keras.StatelessScope(
            state_mapping=list(zip(variables, values, strict=True)),
            collect_losses=return_losses,
        ) as scope:
            outputs = self(*args, **kwargs)
            losses = [self.losses] if return_losses else []
        non_trainable_variables = [
            scope.get_current_value(v) for v in self.non_trainable_variables
        ]
        return outputs, non_trainable_variables, *losses


def compile_function(
    function, model=None, jit_compile="auto", run_eagerly=False
):
    """Returns `function` compiled.

    The variables of `model` are arguments of the compiled program, so new
    weights need no recompilation.
    """
    variables = [] if model is None else model.variables

    def run(values, args):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return function(*args)

    if jit_compile and not run_eagerly:
        run = jax.jit(run)

    def compiled(*args):
        return run([v.value for v in variables], args)

    return compiled


def describe():
    """Returns the device and its matmul precision, as strings."""
    return {
        "device": jax.devices()[0].device_kind,
        "matmul precision": str(jax.config.jax_default_matmul_precision),
    }


def full_precision():
    return jax.default_matmul_precision("highest")


def building_scope(model):
    """Returns the scope in which the variables of `model` are created."""
    return contextlib.nullcontext()


def replica_index():
    """Returns 0, because JAX treats a batch on several devices as one."""
    return 0


def to_devices(batch):
    """Returns a batch, divided over the devices that share batches.

    A batch that does not divide evenly stays whole, and each device computes
    all of it. Every process must pass the same batch.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or len(batch) % distribution.num_model_replicas:
        return keras.ops.convert_to_tensor(batch)
    layout = distribution.get_data_layout(batch.shape)
    return keras.distribution.distribute_tensor(batch, layout)


def batch_of_first_process(batch):
    """Returns the batch of the first process, in every process."""
    if jax.process_count() == 1:
        return batch
    return multihost_utils.broadcast_one_to_all(batch)


def to_host(tensor):
    """Returns a tensor as NumPy, with the parts of the other processes."""
    value = keras.ops.convert_to_tensor(tensor)
    if not value.is_fully_addressable and not value.is_fully_replicated:
        value = multihost_utils.process_allgather(value, tiled=True)
    return keras.ops.convert_to_numpy(value)


def lay_out_kernel(kernel):
    """Returns a kernel with the memory layout that `conv2d` reads."""
    return kernel


def conv2d(x, kernel, bias, **options):
    """Convolves as Keras does, or as a matrix product where XLA is slow."""
    if _on_cpu() and _channels_last(options) and _is_wide(x, kernel):
        x = _matrix_conv2d(x, kernel, **options)
    else:
        x = _xla_conv2d(x, kernel, **options)
    return _biased(x, bias, options)


def depthwise_conv2d(x, kernel, bias, **options):
    """Convolves each channel, by shifted sums where XLA is slow."""
    if _on_cpu() and _channels_last(options) and kernel.shape[3] == 1:
        x = _shifted_conv2d(x, kernel, **options)
    else:
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
        x = _xla_conv2d(x, kernel, **options)
    return _biased(x, bias, options)


def _channels_last(options):
    return options["data_format"] == "channels_last"


def _biased(x, bias, options):
    if bias is None:
        return x
    return x + (bias if _channels_last(options) else bias[:, None, None])


def _xla_conv2d(x, kernel, strides, padding, data_format, dilation_rate):
    last = data_format == "channels_last"
    layout = "NHWC" if last else "NCHW"
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding.upper() if isinstance(padding, str) else padding,
        rhs_dilation=dilation_rate,
        dimension_numbers=(layout, "HWIO", layout),
        feature_group_count=x.shape[3 if last else 1] // kernel.shape[2],
    )


def _is_wide(x, kernel):
    # With many channels over few positions (and no groups), XLA's CPU
    # convolution takes twice as long as the matrix product.
    positions, channels = x.shape[1] * x.shape[2], x.shape[3]
    return positions <= 64 and channels >= 128 and channels == kernel.shape[2]


def _matrix_conv2d(x, kernel, **options):
    """Convolves channels-last images as patches times a matrix."""
    patches = [patch for _, _, patch in _patches(x, kernel, **options)]
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return jax.numpy.concatenate(patches, axis=-1) @ matrix


def _shifted_conv2d(x, kernel, **options):
    """Convolves each channel of channels-last images as a sum of its shifts.

    XLA's own gradient of this convolution is 20 to 40 times as slow.
    """
    return sum(
        patch * kernel[i, j, :, 0]
        for i, j, patch in _patches(x, kernel, **options)
    )


def _patches(x, kernel, strides, padding, data_format, dilation_rate):
    """Yields each position `i, j` of a kernel, and the pixels it multiplies."""
    windows = [
        rate * (size - 1) + 1
        for rate, size in zip(dilation_rate, kernel.shape, strict=False)
    ]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(
            x.shape[1:3], windows, strides, padding.upper()
        )
    x = jax.numpy.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = (
        slice(0, size - window + 1)
        for size, window in zip(x.shape[1:3], windows, strict=True)
    )
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            seen = x[:, i * dilation_rate[0] :, j * dilation_rate[1] :]
            seen = seen[:, rows, columns]
            yield i, j, seen[:, :: strides[0], :: strides[1]]


def _on_cpu():
    return jax.default_backend() == "cpu"
