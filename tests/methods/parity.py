"""A method in Keras beside a transcription of it in plain PyTorch.

Each network exists twice, with the same weights. The transcription is two
functions of the PyTorch networks (a dict by name): `attack(modules, x, y,
noise)` returns x*, and `loss(modules, x, x_adv, y)` the scalar to train, after
running `modules["student"]`, in training mode, in the method's order.
"""

import keras
import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import networks as builders
from benchmarks import reference
from tests import networks

WIDTHS = {
    "student": (8, 12),
    "teacher": (16, 24),
    "clean_teacher": (12, 16),
    "peer": (10, 14),
}


def twins(*names):
    """Returns two dicts by name: networks in Keras, copies in PyTorch.

    Args:
        *names: `"student"`, `"teacher"`, `"clean_teacher"`, `"peer"`. Teachers
            are in inference mode.
    """
    models, modules = {}, {}
    for name in names:
        widths = WIDTHS[name]
        model = builders.conv_net(widths, networks.SHAPE, name=name)
        models[name] = networks.randomized(model, seed=sum(widths))
        module = reference.copy_weights(model, reference.ConvNet(widths))
        modules[name] = module.train(name in ("student", "peer"))
        for child in module.children():
            if isinstance(child, nn.BatchNorm2d):
                child.register_forward_hook(_bias_variance)
    return models, modules


@torch.no_grad()
def _bias_variance(bn, inputs, outputs):
    """PyTorch's running variance is the unbiased one, Keras's the biased."""
    if bn.training:
        (x,) = inputs
        count = x.numel() // x.shape[1]
        excess = x.var((0, 2, 3), correction=0) / (count - 1)
        # A new tensor, because the backward pass keeps the old one.
        bn.running_var = bn.running_var - bn.momentum * excess


def to_torch(x):
    """Images from `(batch, height, width, channels)` to PyTorch's order."""
    return torch.tensor(np.transpose(x, (0, 3, 1, 2)).copy())


def to_keras(x):
    """The inverse of `to_torch`."""
    return np.transpose(x.detach().numpy(), (0, 2, 3, 1))


def compare_step(
    trainer,
    modules,
    attack,
    loss,
    x,
    y,
    noise,
    steps=1,
    loss_rel=1e-5,
    trained=("student",),
):
    """Asserts that training steps are those of the transcription.

    Every step starts from `noise`: x* is equal on 99.9 % of the pixels, the
    loss to 1e-5. After the last step, the changes of each of the student's
    weights and BatchNorm statistics are equal to 1e-3 of their norm, and of
    those of the other networks in `trained`.

    Args:
        trainer: The method, over the Keras networks of `twins`; compiled here,
            by the first call. Each call begins without momentum.
        modules: The PyTorch networks of the same call of `twins`.
        attack: Function `(modules, x, y, noise) -> x_adv`, in PyTorch.
        loss: Function `(modules, x, x_adv, y) -> scalar`, in PyTorch.
        x: Images, a NumPy array of shape `(batch_size, 8, 8, 1)`.
        y: Class indices, a NumPy array of shape `(batch_size,)`.
        noise: Start of the attack, of the shape of `x`. Further calls with one
            trainer take the noise of the first.
        steps: Number of steps. Defaults to `1`.
        loss_rel: Relative tolerance of the loss. Defaults to `1e-5`.
        trained: Names of the networks that the step trains.
    """
    if trainer.compiled:
        # To compile it again would have the step traced again.
        for momentum in trainer.optimizer.momentums:
            momentum.assign(np.zeros(momentum.shape))
    else:
        trainer.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    if "start_noise" not in vars(trainer.attack):
        trainer.attack.start_noise = lambda *args: noise
    weights = [w for name in trained for w in modules[name].parameters()]
    optimizer = torch.optim.SGD(weights, 0.1, momentum=0.9)
    images, labels = to_torch(x), torch.tensor(y).long()
    models = {name: getattr(trainer, name) for name in trained}
    starts = {
        name: {layer.name: layer.get_weights() for layer in model.layers}
        for name, model in models.items()
    }
    for _ in range(steps):
        x_adv = trainer.perturb(x, y, noise=noise)
        expected = attack(modules, images, labels, to_torch(noise))
        same = np.abs(x_adv - to_keras(expected)) < 1e-5
        assert same.mean() >= 0.999

        logs = trainer.train_on_batch(x, y, return_dict=True)
        # At our x*, so that a pixel in a thousand does not blur the loss.
        value = loss(modules, images, to_torch(x_adv), labels)
        assert float(logs["loss"]) == pytest.approx(value.item(), rel=loss_rel)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    for name, model in models.items():
        assert_same_change(model, modules[name], starts[name])


def assert_same_change(model, module, starts):
    """Asserts that weights and statistics moved alike, to 1e-3."""
    for name, child in module.named_children():
        ours = model.get_layer(name).get_weights()
        for start, value, target in zip(
            starts[name], ours, _arrays(child), strict=True
        ):
            error = np.linalg.norm(value - target)
            assert error < 1e-3 * np.linalg.norm(target - start), name


def _arrays(module):
    """Returns the arrays of a PyTorch layer as Keras's `get_weights` does."""
    arrays = [
        value.numpy()
        for value in module.state_dict().values()
        if value.dtype == torch.float32
    ]
    transpositions = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
    return [a.transpose(transpositions[a.ndim]) for a in arrays]
