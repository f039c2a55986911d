"""AdaAD with a cheaper attack: a linear teacher."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import keras_adaad
from benchmarks import methods
from keras_adaad.attacks import PGD
from keras_adaad.frozen.linear_teacher import log_odds_of_first_class
from tests import networks
from tests.methods import parity
from tests.oracles import stateful_methods as transcriptions


def linear(teacher, student, attack=None):
    return keras_adaad.AdaAD(
        teacher, student, attack, teacher_in_attack="linear"
    )


# The linear teacher.


def attack_in_pytorch(follow=lambda change: change):
    """AdaAD's attack with the log-odds of the first class made linear."""

    def attack(modules, x, y, noise):
        leaf = x.clone().requires_grad_(True)
        logits = modules["teacher"](leaf)
        first = logits.argmax(1)
        likeliest = F.softmax(logits.double(), 1).gather(1, first[:, None])
        (slope,) = torch.autograd.grad(torch.logit(likeliest).sum(), leaf)

        def disagreement(x_adv):
            target = logits.detach().clone()
            change = (slope * (x_adv - x)).flatten(1).sum(1)
            target[torch.arange(len(x)), first] += follow(change)
            return transcriptions.divergence(target, modules["student"](x_adv))

        return transcriptions.ascend(modules, disagreement, x, noise)

    return attack


def loss_in_pytorch(modules, x, x_adv, y):
    modules["student"](x)
    return transcriptions.divergence(
        transcriptions.target(modules, x_adv), modules["student"](x_adv)
    ).mean()


def test_step_is_the_transcription(batch, noise):
    models, modules = parity.twins("teacher", "student")
    parity.compare_step(
        linear(**models),
        modules,
        attack_in_pytorch(),
        loss_in_pytorch,
        *batch,
        noise,
    )


def test_gradient_flows_through_the_change(batch, noise):
    models, modules = parity.twins("teacher", "student")
    x, y = batch
    data = parity.to_torch(x), torch.tensor(y), parity.to_torch(noise)
    x_adv = linear(**models).perturb(x, noise=noise)
    for wrong in (torch.zeros_like, torch.detach):
        expected = attack_in_pytorch(wrong)(modules, *data)
        same = np.abs(x_adv - parity.to_keras(expected)) < 1e-5
        assert same.mean() < 0.99, wrong


def two_classes(activation):
    inputs = keras.Input(networks.SHAPE)
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(16, activation)(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def test_is_exact_for_a_linear_teacher_of_two_classes(batch):
    x, _ = batch
    attack = PGD(epsilon=0.1, steps=5, start=None)
    teacher, student = two_classes(None), two_classes("tanh")
    exact = keras_adaad.AdaAD(teacher, student, attack).perturb(x)
    fixed = keras_adaad.RSLAD(teacher, student, attack).perturb(x, noise=None)
    found = linear(teacher, student, attack).perturb(x)
    assert (np.abs(found - exact) < 1e-5).mean() >= 0.999
    assert (np.abs(fixed - exact) < 1e-5).mean() < 0.9


def test_log_odds():
    logits = np.array([[1.0, 2.0, 0.5], [300.0, 0.0, -300.0]], "float32")
    values, first = log_odds_of_first_class(keras.ops.convert_to_tensor(logits))
    p = np.exp(2.0) / np.exp(logits[0].astype("float64")).sum()
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(values),
        [np.log(p / (1 - p)), 300.0],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(first), [[0, 1, 0], [1, 0, 0]]
    )


@pytest.mark.once
def test_teacher_runs_twice_per_step():
    def make(teacher, _, student):
        return linear(teacher, student)

    # Eleven times with the exact one: see the README's table of methods.
    assert methods._passes(make) == (12, 2)


def test_is_saved(batch, tmp_path):
    x, _ = batch
    distiller = linear(
        networks.dense_net("teacher"),
        networks.dense_net("student"),
        PGD(epsilon=0.1, steps=2, start=None),
    )
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    assert loaded.teacher_in_attack == "linear"
    np.testing.assert_allclose(
        loaded.perturb(x), distiller.perturb(x), atol=1e-6
    )


@pytest.mark.once
def test_unknown_teacher():
    with pytest.raises(ValueError, match="teacher_in_attack='fast'"):
        keras_adaad.AdaAD(
            networks.dense_net(),
            networks.dense_net(),
            teacher_in_attack="fast",
        )


# The number of steps.
