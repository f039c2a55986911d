"""Networks in Keras and in PyTorch, and the published attacks on the latter.

Models and data are built once per process. Programs are compiled per model, so
tests that share a model and a batch shape share the compiled programs.
"""

import contextlib
import functools
import logging

import keras
import numpy as np
import torch
import torch.nn.functional as F
from pyautoattack.autopgd_base import APGDAttack
from pyautoattack.autopgd_base import APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import nn

from benchmarks import networks
from benchmarks import reference
from keras_adaad.frozen.classifier import Classifier
from tests.attacks.test_norms import size

SHAPE = (8, 8, 1)
NORMS = ("linf", "l2")
# Radii that fool a quarter of the images, where the network is nearly linear.
SMALL_EPSILON = {"linf": 0.01, "l2": 0.05}
REFERENCE_NORM = {"linf": "Linf", "l2": "L2"}
# Radii that fool about half of the images of `smooth_batch`.
EPSILON = {"linf": 0.03, "l2": 0.2}

__all__ = ["size"]


# Models.


@functools.cache
def smooth_pair(num_classes=10, low=0.0, high=1.0):
    """Returns a small smooth network, in Keras and in PyTorch.

    The Keras model takes images in `[low, high]` and rescales them to [0, 1].
    """
    inputs = keras.Input(SHAPE)
    h = inputs
    if (low, high) != (0.0, 1.0):
        h = keras.layers.Rescaling(1.0 / (high - low), -low / (high - low))(h)
    h = keras.layers.Flatten()(h)
    h = keras.layers.Dense(16, activation="tanh")(h)
    h = keras.layers.Dense(16, activation="softplus")(h)
    model = keras.Model(inputs, keras.layers.Dense(num_classes)(h))
    generator = np.random.default_rng(3)
    model.set_weights(
        [
            generator.normal(0, 2.5 / np.sqrt(w.shape[0]), w.shape)
            for w in model.get_weights()
        ]
    )
    linears = [nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, num_classes)]
    with torch.no_grad():
        arrays = [torch.tensor(w) for w in model.get_weights()]
        for i, linear in enumerate(linears):
            linear.weight.copy_(arrays[2 * i].T)
            linear.bias.copy_(arrays[2 * i + 1])
    module = nn.Sequential(
        nn.Flatten(),
        linears[0],
        nn.Tanh(),
        linears[1],
        nn.Softplus(),
        linears[2],
    )
    return model, module.requires_grad_(False).eval()


@functools.cache
def trained_pair():
    """Returns an adversarially trained network, in Keras and in PyTorch.

    PyTorch trains it on digits, so that all backends attack the same weights.
    """
    x, y = digits()
    x, y = x[:1300], y[:1300]
    threads = torch.get_num_threads()
    # On one thread, because another order of sums trains another network.
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = reference.ConvNet((16, 32))
        optimizer = torch.optim.Adam(module.parameters(), 0.01)
        for epoch in range(12):
            if epoch == 8:
                optimizer.param_groups[0]["lr"] = 0.002
            for rows in torch.randperm(len(x)).split(128):
                _train_on(module, optimizer, x[rows], y[rows])
    torch.set_num_threads(threads)
    module.requires_grad_(False).eval()
    model = networks.conv_net((16, 32), SHAPE)
    for name, child in module.named_children():
        model.get_layer(name).set_weights(_arrays(child))
    return model, module


def _train_on(module, optimizer, x, y, epsilon=0.1):
    module.eval()
    x_adv = (x + epsilon * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(3):
        x_adv.requires_grad_()
        loss = F.cross_entropy(module(x_adv), y)
        (gradient,) = torch.autograd.grad(loss, x_adv)
        x_adv = x_adv.detach() + epsilon / 2 * gradient.sign()
        x_adv = torch.min(torch.max(x_adv, x - epsilon), x + epsilon)
        x_adv = x_adv.clamp(0, 1)
    module.train()
    optimizer.zero_grad()
    F.cross_entropy(module(x_adv), y).backward()
    optimizer.step()


def _arrays(child):
    if isinstance(child, nn.Conv2d):
        weights = [child.weight.permute(2, 3, 1, 0)]
    elif isinstance(child, nn.Linear):
        weights = [child.weight.T, child.bias]
    else:
        weights = [
            child.weight,
            child.bias,
            child.running_mean,
            child.running_var,
        ]
    return [w.detach().numpy() for w in weights]


class Constant(keras.layers.Layer):
    """Constant logits: no attack changes them, and all gradients are zero."""

    def call(self, x):
        zeros = 0.0 * keras.ops.sum(x, axis=(1, 2, 3))
        return keras.ops.stack([zeros + z for z in (3, 1, 0, -1, -2)], axis=-1)


class AlwaysDropout(keras.layers.Dropout):
    """Dropout that is also active in inference mode.

    A plain `Dropout` that is called with `training=True` in a functional model
    is turned off by Keras when the model is called with `training=False`.
    """

    def call(self, x, training=False):
        return super().call(x, training=True)


@functools.cache
def constant_model():
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, Constant()(inputs))


@functools.cache
def random_model():
    """Returns the smooth network with dropout that is always active."""
    inputs = keras.Input(SHAPE)
    h = keras.layers.Flatten()(inputs)
    h = keras.layers.Dense(16, activation="tanh")(h)
    h = AlwaysDropout(0.3, seed=0)(h)
    h = keras.layers.Dense(16, activation="softplus")(h)
    model = keras.Model(inputs, keras.layers.Dense(10)(h))
    for variable, value in zip(
        model.trainable_variables,
        smooth_pair()[0].get_weights(),
        strict=True,
    ):
        variable.assign(value)
    return model


# Data.


@functools.cache
def digits():
    """Returns all digits as PyTorch tensors, channels first."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.tensor((data.images / 16.0).astype("float32"))[:, None]
    return x, torch.tensor(data.target)


@functools.cache
def smooth_batch(num_images=16, num_classes=10):
    """Returns digits and the classes that the smooth network predicts."""
    x = digits()[0][:num_images]
    y = smooth_pair(num_classes)[1](x).argmax(1)
    return to_keras(x), y.numpy().astype("int32")


@functools.cache
def trained_batch(num_images=96):
    """Returns digits that the trained network classifies correctly."""
    x, y = (array[1300:] for array in digits())
    right = trained_pair()[1](x).argmax(1) == y
    x, y = x[right][:num_images], y[right][:num_images]
    return to_keras(x), y.numpy().astype("int32")


def to_torch(x):
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1).copy())


def to_keras(x):
    return np.moveaxis(x.detach().numpy(), 1, -1).copy()


def labels(y):
    return torch.tensor(np.asarray(y), dtype=torch.long)


def logits(module, x):
    """Returns the logits of a PyTorch network in float64."""
    with torch.no_grad():
        return module(to_torch(x)).numpy().astype("float64")


def wrong(module, x, y):
    return logits(module, x).argmax(-1) != y


def cross_entropy(module, x, y):
    z = logits(module, x)
    z = z - z.max(1, keepdims=True)
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), y]


def margin(module, x, y):
    z = logits(module, x)
    others = z.copy()
    others[np.arange(len(z)), y] = -np.inf
    return others.max(1) - z[np.arange(len(z)), y]


def noise(x, norm, epsilon, seed=1):
    """Returns a perturbation on the sphere of radius epsilon."""
    t = np.random.default_rng(seed).normal(size=x.shape)
    t = epsilon * t / size(t, norm)[:, None, None, None]
    return t.astype("float32")


@contextlib.contextmanager
def recording(module):
    """Records the images that a PyTorch network is called with."""
    seen = []
    hook = module.register_forward_pre_hook(
        lambda _, inputs: seen.append(to_keras(inputs[0]))
    )
    yield seen
    hook.remove()


def share_close(found, expected, atol=1e-5):
    """Returns the share of images that agree in every pixel."""
    apart = np.abs(np.asarray(found, "float64") - expected)
    return (apart.reshape(len(apart), -1).max(1) <= atol).mean()


# The published attacks.


class APGDAttackPMA(APGDAttack):
    """The published search, which calls this method, with another loss."""

    def dlr_loss(self, logits, y):
        p = logits.softmax(1)
        right = p.gather(1, y[:, None])[:, 0]
        return p.scatter(1, y[:, None], 0.0).amax(1) - right


def apgd(module, norm, epsilon, steps, loss, **options):
    kinds = {"targeted": APGDAttack_targeted, "pma": APGDAttackPMA}
    kind = kinds.get(loss, APGDAttack)
    if loss != "targeted":
        names = {"cross_entropy": "ce", "pma": "dlr"}
        options["loss"] = names.get(loss, loss)
    return kind(
        module,
        n_iter=steps,
        norm=REFERENCE_NORM[norm],
        eps=epsilon,
        device="cpu",
        logger=_silent(),
        **options,
    )


def apgd_run(module, norm, epsilon, steps, loss, x, y, start):
    """Returns the point found from `start`, and the highest loss."""
    attack = apgd(module, norm, epsilon, steps, loss)
    x, y, start = to_torch(x), labels(y), to_torch(start)
    attack.init_hyperparam(x)
    if loss == "targeted":
        attack.y_target = module(x).sort(dim=1)[1][:, -2]
    x_best, right, value, x_fooled = attack.attack_single_run(x, y, start)
    found = torch.where(right[:, None, None, None], x_best, x_fooled)
    return to_keras(found), value.numpy()


def fab(module, norm, epsilon, steps, **options):
    return FABAttack_PT(
        module,
        norm=REFERENCE_NORM[norm],
        eps=epsilon,
        n_iter=steps,
        device="cpu",
        **options,
    )


def square(module, norm, epsilon, queries, **options):
    return SquareAttack(
        module,
        norm=REFERENCE_NORM[norm],
        eps=epsilon,
        n_queries=queries,
        resc_schedule=False,
        device="cpu",
        **options,
    )


def _silent():
    logger = logging.getLogger("reference")
    logger.setLevel(logging.ERROR)
    return logger


# The library's attacks, step by step.


def states(attack, model, x, y, start, seed=0):
    """Returns the states of a search, at the start and after each step."""
    classifier = Classifier.of(model, model.output_shape[-1], seed)
    targets = attack._target_classes(classifier, x, len(x))
    target = None if targets is None else targets[0]

    def begin(logits, x, y, target, start, setting):
        objective = attack._objective(logits, y, target)
        return attack.begin(objective, x, start, setting)

    def step(logits, x, y, target, state, setting):
        objective = attack._objective(logits, y, target)
        return attack.step(objective, x, state, setting)

    key = ("states", attack._program_key())
    begin = classifier.program((*key, "begin"), begin)
    step = classifier.program((*key, "step"), step)
    data = [
        None if a is None else keras.ops.convert_to_tensor(a)
        for a in (x, y, target)
    ]
    found = []
    for setting in attack.settings(x.shape[1:], seed):
        if not found:
            found.append(
                begin(*data, keras.ops.convert_to_tensor(start), setting)
            )
        found.append(step(*data, found[-1], setting))
    return [
        {name: keras.ops.convert_to_numpy(v) for name, v in state.items()}
        for state in found
    ]


def steps_taken(attack, model, x, y, batch_size=None):
    """Returns the outcome of an attack and how many images each step moved."""
    moved = []
    outcome = attack._run(
        Classifier.of(model, model.output_shape[-1]),
        x,
        y,
        seed=0,
        batch_size=batch_size or len(x),
        stop=lambda images: moved.append(images) is not None,
    )
    return outcome, moved


def scripted(values):
    """Returns an objective with given values, and the images it is given."""
    seen, values = [], iter(values)

    def objective(x):
        seen.append(np.array(keras.ops.convert_to_numpy(x)))
        value = np.broadcast_to(next(values), x.shape[:1]).astype("float32")
        value = keras.ops.convert_to_tensor(value)
        return value, value >= 0.0

    return objective, seen
