"""Adversarial weight perturbation against a transcription in PyTorch."""

import copy

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import keras_adaad
from tests import networks
from tests.methods import parity

GAMMA = 0.02


def published_step(module, x, y, weights):
    """One step of PGD-AT without an attack, at the perturbed weights."""

    def mean_loss(module):
        return (
            weights * F.cross_entropy(module(x), y, reduction="none")
        ).mean()

    proxy = copy.deepcopy(module).train()
    mean_loss(proxy).backward()
    offsets = {
        name: GAMMA * w.detach().norm() / w.grad.norm() * w.grad
        for name, w in proxy.named_parameters()
        if w.ndim > 1
    }
    module.train()
    parameters = dict(module.named_parameters())
    optimizer = torch.optim.SGD(parameters.values(), 0.1)
    with torch.no_grad():
        for name, offset in offsets.items():
            parameters[name] += offset
    loss = mean_loss(module)
    module(x)  # The clean view, second.
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for name, offset in offsets.items():
            parameters[name] -= offset
    return loss.item()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("jit_compile", ["auto", False])
def test_step_is_the_published_one(batch, jit_compile, weighted):
    x, y = batch
    weights = np.where(y < 5, 3.0, 0.1) if weighted else np.ones(len(y))
    weights = weights.astype("float32")
    models, modules = parity.twins("student")
    student, module = models["student"], modules["student"]
    starts = {layer.name: layer.get_weights() for layer in student.layers}
    # Epsilon 0: both see the clean images, and the weights alone move.
    trainer = keras_adaad.PGDAT(
        student,
        keras_adaad.attacks.PGD(epsilon=0.0, step_size=0.0, start=None),
        weight_perturbation=GAMMA,
    )
    trainer.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    logs = trainer.train_on_batch(x, y, weights, return_dict=True)
    images, labels = parity.to_torch(x), torch.tensor(y).long()
    loss = published_step(module, images, labels, torch.tensor(weights))
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-4)
    parity.assert_same_change(student, module, starts)


def test_it_raises_the_loss(batch):
    x, y = batch
    losses = []
    for size in (0.0, 0.05):
        keras.utils.set_random_seed(0)
        trainer = keras_adaad.TRADES(
            networks.student_net(), weight_perturbation=size
        )
        trainer.compile("sgd")
        logs = trainer.train_on_batch(x, y, return_dict=True)
        losses.append(float(logs["loss"]))
    assert losses[1] > losses[0] * 1.01


def test_it_trains_and_is_saved(digits, tmp_path):
    x, y = digits[0][:64], digits[1][:64]
    trainer = keras_adaad.AdaAD(
        networks.teacher_net(),
        networks.student_net(),
        weight_perturbation=0.005,
    )
    trainer.compile("sgd", metrics=["accuracy"])
    history = trainer.fit(x, y, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    trainer.save(tmp_path / "trainer.keras")
    loaded = keras.models.load_model(tmp_path / "trainer.keras")
    assert loaded.weight_perturbation == 0.005


def test_the_optimizer_sees_the_weights_themselves(batch):
    """Its average and the constraints are of weights without the offsets."""
    x, y = batch
    student = keras.Sequential(
        [
            keras.Input(networks.SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(20, kernel_constraint="unit_norm"),
            keras.layers.Dense(10),
        ]
    )
    trainer = keras_adaad.PGDAT(student, weight_perturbation=0.2)
    trainer.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    average = None
    for _ in range(3):
        trainer.train_on_batch(x, y)
        constrained, _, kernel, _ = student.get_weights()
        norms = np.linalg.norm(constrained, axis=0)
        np.testing.assert_allclose(norms, 1.0, atol=1e-5)
        average = kernel if average is None else 0.5 * (average + kernel)
    trainer.optimizer.finalize_variable_values(student.trainable_variables)
    np.testing.assert_allclose(student.get_weights()[2], average, atol=1e-6)


def test_a_failed_step_leaves_the_weights(batch):
    class Failing(keras_adaad.PGDAT):
        def outer_loss(self, views, logits, y):
            if self.learning:
                raise RuntimeError("out of memory")
            return super().outer_loss(views, logits, y)

    trainer = Failing(networks.student_net(), weight_perturbation=0.2)
    trainer.compile("sgd", run_eagerly=True)
    before = trainer.student.get_weights()
    with pytest.raises(RuntimeError, match="memory"):
        trainer.train_on_batch(*batch)
    after = trainer.student.get_weights()
    for i, variable in enumerate(trainer.student.weights):
        if "moving" not in variable.path:
            np.testing.assert_array_equal(before[i], after[i])


@pytest.mark.once
@pytest.mark.parametrize("size", [-0.1, "0.1", None])
def test_bad_size(size):
    with pytest.raises((TypeError, ValueError), match="weight_perturbation"):
        keras_adaad.PGDAT(networks.student_net(), weight_perturbation=size)
