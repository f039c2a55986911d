"""The PyTorch seam."""

import contextlib

import keras
import torch


def input_gradient(objective, x):
    """Returns the gradient at `x` of the objective summed over the batch."""
    # `evaluate` runs under `torch.no_grad()`; the attack needs gradients there.
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        # `autograd.grad`, not `backward`: no `.grad` of a weight is touched.
        (gradient,) = torch.autograd.grad(objective(x).sum(), x)
    return gradient


def repeat(steps, body, x):
    """Applies `x = body(x)`, `steps` times."""
    for _ in range(steps):
        x = body(x)
    return x


def inference(model):
    """Returns `x -> model(x)` in inference mode."""
    return lambda x: model(x, training=False)


def views_then_step(keras_step, make_views, model, data):
    """Replaces the batch by its views, then runs Keras's own step on them."""
    with torch.no_grad():
        data = make_views(data)
    return keras_step(data)


def compile_function(function, model, jit_compile=False, run_eagerly=False):
    """Returns `function` compiled; it takes arrays and returns NumPy."""
    run = (
        torch.compile(function) if jit_compile and not run_eagerly else function
    )

    def compiled(*args):
        with torch.no_grad():
            return keras.ops.convert_to_numpy(run(*(_tensor(a) for a in args)))

    return compiled


def building_scope(model):
    """Returns the scope in which the variables of `model` are created."""
    return contextlib.nullcontext()


def _tensor(array):
    return None if array is None else keras.ops.convert_to_tensor(array)
