"""Processes that train one model together, on PyTorch: `torch.distributed`.

Keras 3.15 does not distribute on PyTorch. Keras 3.16 does, but takes no arrays
then; see `keras_private.UndistributedModel`.
"""

import atexit
import contextlib
import os

import keras
import torch
from torch import distributed

# All processes have as many images.
from keras_adaad.backend.one_process import check_optimizer as check_optimizer
from keras_adaad.backend.one_process import (
    weighted_by_images as weighted_by_images,
)


def start():
    """Joins the processes that `torchrun` started; returns this one's index."""
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return 0
    device = os.environ.get("KERAS_TORCH_DEVICE", "cuda")
    if device == "cuda" and torch.cuda.is_available():
        # Keras puts tensors on "cuda", which then means this device.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if not distributed.is_initialized():
        distributed.init_process_group(_library())
    atexit.register(_leave)
    return distributed.get_rank()


def _leave():
    # A process that ends with its group may abort in the group's threads.
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _library():
    device = keras.ops.zeros(()).device.type
    if device not in ("cpu", "cuda"):
        raise ValueError(
            "Several processes train on CPUs or on CUDA GPUs. Set the "
            'environment variable `KERAS_TORCH_DEVICE` to "cpu". '
            f"Received: device={device!r}"
        )
    return "nccl" if device == "cuda" else "gloo"


def count():
    """Returns how many processes train together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def index():
    """Returns the index of this process. Process 0 writes the files."""
    return distributed.get_rank() if count() > 1 else 0


def broadcast(variables):
    """Sets variables to their values in the first process."""
    if count() > 1:
        for variable in variables:
            value = variable.value.detach()
            shared = value.contiguous()
            distributed.broadcast(shared, src=0)
            value.copy_(shared)


def share_state(model):
    """Averages the state that a step changes without a gradient.

    That is BatchNorm's statistics, which come from the batch of one process,
    and the state of the method.
    """
    if count() > 1:
        variables = list(model._states)
        for network in model.trained_networks():
            variables += network.non_trainable_variables
        values = [v.value.detach() for v in variables]
        values = [v for v in values if v.is_floating_point()]
        for value, mean in zip(values, means(values), strict=True):
            value.copy_(mean)


def averaged_gradient(loss, variables):
    """Returns the loss, with its gradient averaged over the processes."""
    if count() == 1:
        return loss
    return _AveragedGradient.apply(
        lambda: loss, *[variable.value for variable in variables]
    )


class _AveragedGradient(torch.autograd.Function):
    """A loss that passes on all of its gradients at once.

    So they are averaged in one exchange, before Keras sees any of them.
    """

    @staticmethod
    def forward(ctx, loss, *values):
        # A function, because autograd would go through a loss tensor.
        ctx.loss = loss
        ctx.values = values
        return loss().detach()

    @staticmethod
    def backward(ctx, gradient):
        gradients = torch.autograd.grad(
            ctx.loss(), ctx.values, gradient, allow_unused=True
        )
        averages = iter(means([g for g in gradients if g is not None]))
        return None, *[None if g is None else next(averages) for g in gradients]


@contextlib.contextmanager
def totals(variables):
    """Sums variables over the processes, inside of the context."""
    if count() == 1:
        yield
        return
    values = [variable.value.detach() for variable in variables]
    own = [value.clone() for value in values]
    for value in values:
        distributed.all_reduce(value)
    try:
        yield
    finally:
        for value, before in zip(values, own, strict=True):
            value.copy_(before)


def means(tensors):
    """Returns the means over processes of a list of tensors."""
    if count() == 1 or not tensors:
        return tensors
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= count()
    sizes = [tensor.numel() for tensor in tensors]
    return [
        part.reshape(tensor.shape).to(tensor.dtype)
        for tensor, part in zip(tensors, flat.split(sizes), strict=True)
    ]
