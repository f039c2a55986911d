"""The PyTorch backend."""

import contextlib
import contextvars

import keras
import numpy as np
import torch

from keras_adaad.backend import keras_private
from keras_adaad.backend import torch_processes
from keras_adaad.backend.perturbed_weights import perturbed_until_update

STATIC_SHAPES = False
Model = keras_private.UndistributedModel

# Whether `value_and_input_gradient` compiles the function.
_compiles = contextvars.ContextVar("compiles", default=False)


def value_and_input_gradient(function, x):
    """Returns values, the rest, and the gradient of the summed values."""

    def forward_and_backward(x):
        values, rest = function(x)
        # `autograd.grad`, not `backward`: no `.grad` of a weight is touched.
        (gradient,) = torch.autograd.grad(values.sum(), x)
        rest = keras.tree.map_structure(torch.detach, rest)
        return values.detach(), rest, gradient

    run = forward_and_backward
    if _compiles.get():
        run = _compiled(run)
    # `evaluate` runs under `torch.no_grad()`; the attack needs gradients there.
    with torch.enable_grad():
        return run(x.detach().requires_grad_(True))


def _compiled(function):
    """Compiles a function that computes a gradient, as one graph if possible.

    With two graphs, the first must store what the second needs. On CPU that
    alone made a step slower than without compilation. PyTorch before 2.13
    makes two.
    """
    # Keras's layers have their channels last. The compiler's own layout
    # optimization expects them on the second axis, and transposes. With batch
    # sizes that vary, PyTorch 2.13 fails to compile some convolutions.
    options = {"layout_optimization": False}
    compiled = torch.compile(function, options=options, dynamic=False)
    return keras_private.with_autograd_in_graph(compiled)


def input_jacobian(function, x):
    """Returns values, the rest, and the gradient of every column of values."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values, rest = function(x)
        gradients = [
            torch.autograd.grad(total, x, retain_graph=True)[0]
            for total in values.sum(0)
        ]
    return values.detach(), rest, torch.stack(gradients, dim=1)


def gradients(function, values):
    """Returns the gradient of a scalar function, the mean over processes."""
    with torch.enable_grad():
        values = [value.detach().requires_grad_(True) for value in values]
        gradients = torch.autograd.grad(
            function(values), values, allow_unused=True, materialize_grads=True
        )
    return torch_processes.means(gradients)


def repeat(steps, body, x):
    """Applies `x = body(x)`, `steps` times."""
    for _ in range(steps):
        x = body(x)
    return x


@torch.compiler.disable
def views_then_step(keras_step, make_views, model, data, make_offsets=None):
    """Replaces the batch with its views, then runs Keras's own step on them.

    With `make_offsets`, the gradient is that at the weights plus the offsets.

    With `jit_compile=True`, the function that the attack differentiates is
    compiled into one graph, which runs in every attack step. The rest is not
    compiled: Keras's own step would break into hundreds of graphs.
    """
    with torch.no_grad(), _compiling(model.jit_compile):
        data = make_views(data)
    if make_offsets is None:
        logs = keras_step(data)
    else:
        with torch.no_grad():
            offsets = make_offsets(data)
        with perturbed_until_update(model, offsets):
            logs = keras_step(data)
    if model.learning:
        torch_processes.share_state(model)
    return logs


@contextlib.contextmanager
def _compiling(wanted):
    token = _compiles.set(bool(wanted))
    try:
        yield
    finally:
        _compiles.reset(token)


def compile_function(
    function, model=None, jit_compile="auto", run_eagerly=False
):
    """Returns `function`, with its attack compiled as in a training step."""
    wanted = jit_compile is True and not run_eagerly

    def compiled(*args):
        with torch.no_grad(), _compiling(wanted):
            return function(*keras.tree.map_structure(_tensor, args))

    return compiled


@contextlib.contextmanager
def fixed_randomness():
    """Fixes PyTorch's random state, which `Dropout` without a seed uses."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        yield


def describe():
    """Returns the device and its matmul precision, as strings."""
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "matmul precision": torch.get_float32_matmul_precision(),
    }


@contextlib.contextmanager
def full_precision():
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def building_scope(model):
    """Returns the scope in which the variables of `model` are created."""
    return contextlib.nullcontext()


def replica_index():
    """Returns the rank of this process among those that train together."""
    return torch_processes.index()


def lay_out_kernel(kernel):
    """Returns a kernel with the memory layout that `conv2d` reads."""
    # Output channels outermost. PyTorch transposes a matrix several times
    # faster than it permutes four axes.
    *sizes, outputs = kernel.shape
    kernel = kernel.reshape(-1, outputs).t().contiguous()
    return kernel.view(outputs, *sizes).permute(1, 2, 3, 0)


def conv2d(x, kernel, bias, strides, padding, data_format, dilation_rate):
    """Convolves without the copies that Keras's torch convolution makes.

    Keras copies a channels-last image to channels-first memory and back.
    PyTorch can convolve a permuted view of it without a copy.
    """
    channels_last = data_format == "channels_last"
    if channels_last:
        x = x.permute(0, 3, 1, 2)
    kernel = kernel.permute(3, 2, 0, 1)
    pads = padding
    if padding == "valid":
        pads = [(0, 0), (0, 0)]
    elif padding == "same":
        sizes = (x.shape[2:], kernel.shape[2:], strides, dilation_rate)
        pads = [_same_padding(*size) for size in zip(*sizes, strict=True)]
    if any(before != after for before, after in pads):
        x = torch.nn.functional.pad(x, (*pads[1], *pads[0]))
        pads = [(0, 0), (0, 0)]
    x = torch.nn.functional.conv2d(
        x,
        kernel,
        bias,
        strides,
        [before for before, _ in pads],
        dilation_rate,
        groups=x.shape[1] // kernel.shape[1],
    )
    return x.permute(0, 2, 3, 1) if channels_last else x


def depthwise_conv2d(x, kernel, bias, **options):
    """Convolves each channel, by `conv2d` with a group for each channel."""
    kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    return conv2d(x, kernel, bias, **options)


def _same_padding(size, kernel_size, stride, dilation):
    covered = (-(-size // stride) - 1) * stride + dilation * (kernel_size - 1)
    total = max(covered + 1 - size, 0)
    return total // 2, total - total // 2


def _tensor(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return keras.ops.convert_to_tensor(value)
    return value
