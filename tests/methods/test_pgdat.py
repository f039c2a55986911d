"""PGD-AT against a transcription in plain PyTorch."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import keras_adaad
from benchmarks import reference
from tests import networks
from tests.methods.test_adaad import to_keras
from tests.methods.test_adaad import to_torch


def madry_attack(student, x, y, noise):
    """Cross-entropy ascent from a clipped start."""
    student.eval()
    x_adv = (x + noise).clamp(0, 1)
    for _ in range(10):
        x_adv = x_adv.detach().requires_grad_(True)
        loss = F.cross_entropy(student(x_adv), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x_adv)
        x_adv = x_adv.detach() + 2 / 255 * gradient.sign()
        x_adv = x + (x_adv - x).clamp(-8 / 255, 8 / 255)
        x_adv = x_adv.clamp(0, 1)
    student.train()
    return x_adv


@pytest.mark.parametrize("one_hot", [False, True])
def test_attack_and_step_are_the_transcriptions(batch, noise, one_hot):
    x, y = batch
    student = networks.student_net()
    module = reference.copy_weights(student, reference.ConvNet((8, 12)))
    labels = np.eye(10, dtype="float32")[y] if one_hot else y

    trainer = keras_adaad.PGDAT(student)
    x_adv = trainer.perturb(x, labels, noise=noise)
    targets = torch.tensor(y).long()
    expected = madry_attack(module, to_torch(x), targets, to_torch(noise))
    assert (np.abs(x_adv - to_keras(expected)) < 1e-5).mean() >= 0.999

    attack = keras_adaad.attacks.PGD(
        epsilon=8 / 255, step_size=2 / 255, start=None
    )
    smoothing = 0.1 if one_hot else 0.0
    trainer = keras_adaad.PGDAT(student, attack, label_smoothing=smoothing)
    trainer.compile(keras.optimizers.SGD(0.1))
    logs = trainer.train_on_batch(x, labels, return_dict=True)

    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    expected = madry_attack(module, to_torch(x), targets, torch.zeros(1))
    loss = F.cross_entropy(module(expected), targets, label_smoothing=smoothing)
    module(to_torch(x))  # The clean forward, second.
    loss.backward()
    optimizer.step()
    assert float(logs["loss"]) == pytest.approx(loss.item(), rel=1e-3)
    np.testing.assert_allclose(
        student.get_layer("conv1").get_weights()[0],
        module.conv1.weight.detach().numpy().transpose(2, 3, 1, 0),
        rtol=1e-3,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        student.get_layer("bn1").get_weights()[2],
        module.bn1.running_mean.numpy(),
        rtol=1e-3,
        atol=1e-5,
    )
