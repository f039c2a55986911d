"""CW against PGD on the margin with freezing, in PyTorch."""

import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_adaad.attacks import CW
from keras_adaad.attacks import PGD
from tests.oracles import attacks as oracles

NORMS = oracles.NORMS


def transcription(module, norm, epsilon, step_size, steps, x, y, start):
    """Returns the iterates, the start first."""
    x, x_adv, y = *map(oracles.to_torch, (x, start)), oracles.labels(y)
    rows = torch.arange(len(x))
    x_adv = x_adv.clamp(0, 1)
    found = [oracles.to_keras(x_adv)]
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        logits = module(x_adv)
        others = logits.clone()
        others[rows, y] = -float("inf")
        margin = others.max(1)[0] - logits[rows, y]
        (gradient,) = torch.autograd.grad(margin.sum(), x_adv)
        right = (logits.argmax(1) == y)[:, None, None, None]
        x_adv = x_adv.detach()
        if norm == "linf":
            moved = x_adv + step_size * gradient.sign()
            moved = torch.min(torch.max(moved, x - epsilon), x + epsilon)
        else:
            moved = x_adv + step_size * gradient / length(gradient)
            delta = moved - x
            moved = x + delta * (epsilon / length(delta)).clamp(max=1.0)
        x_adv = torch.where(right, moved.clamp(0, 1), x_adv)
        found.append(oracles.to_keras(x_adv))
    return np.stack(found)


def length(delta):
    return (delta**2).sum((1, 2, 3), keepdim=True).sqrt() + 1e-12


@pytest.mark.parametrize("norm", NORMS)
def test_iterates_are_those_of_pgd_that_stops_once_fooled(norm):
    x, y = oracles.smooth_batch()
    model, module = oracles.smooth_pair()
    epsilon = oracles.EPSILON[norm]
    start = 0.5 * oracles.noise(x, norm, epsilon)
    attack = CW(epsilon=epsilon, norm=norm, steps=12)
    expected = transcription(
        module, norm, epsilon, epsilon / 4, 12, x, y, x + start
    )
    states = oracles.states(attack, model, x, y, start)
    found = np.stack([state["x_adv"] for state in states])
    np.testing.assert_allclose(found[:4], expected[:4], atol=1e-5)
    assert oracles.share_close(found[-1], expected[-1]) > 0.9
    fooled = np.array([oracles.wrong(module, p, y) for p in found])
    # Some are fooled on the way, and stay at that very point.
    first = fooled.argmax(0)
    late = np.flatnonzero(fooled.any(0) & (first > 0))
    assert len(late) >= 2 and not fooled[-1].all()
    for row in late:
        stays = found[first[row] :, row]
        np.testing.assert_array_equal(stays, stays[:1].repeat(len(stays), 0))
        assert (found[first[row], row] != found[first[row] - 1, row]).any()
    # The others move on.
    rest = np.flatnonzero(~fooled[-1])
    if norm == "l2":
        assert (found[2, rest] != found[1, rest]).any((1, 2, 3)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_call_is_this_search(norm):
    x, y = oracles.smooth_batch()
    model, module = oracles.smooth_pair()
    epsilon = oracles.EPSILON[norm]
    start = 0.5 * oracles.noise(x, norm, epsilon)
    for steps in (1, 3, 30):
        attack = CW(epsilon=epsilon, norm=norm, steps=steps)
        found = attack(model, x, y, noise=start)
        expected = transcription(
            module, norm, epsilon, epsilon / 4, steps, x, y, x + start
        )[-1]
        close = oracles.share_close(found, expected)
        assert close == 1.0 if steps < 4 else close > 0.8
        fooled = oracles.wrong(module, expected, y)
        np.testing.assert_array_equal(oracles.wrong(module, found, y), fooled)


def test_number_of_steps_and_their_size():
    attack = CW(epsilon=0.1)
    assert attack.steps == 30 and attack.restarts == 1
    assert attack.step_size == 0.1 / 4
    settings = attack.settings(oracles.SHAPE, 0)
    assert settings == 30 * [{"epsilon": 0.1, "step_size": 0.025}]
    # Nothing fools a constant, so all restarts take all their steps.
    x, _ = oracles.smooth_batch()
    y = np.zeros(len(x), "int32")
    attack = CW(epsilon=0.1, steps=7, restarts=3)
    _, moved = oracles.steps_taken(attack, oracles.constant_model(), x, y)
    assert moved == 7 * 3 * [len(x)]
    # As `CW` of the literature: 50 steps of 2/255, 10 restarts.
    attack = CW(epsilon=8 / 255, steps=50, restarts=10)
    assert attack.step_size == pytest.approx(2 / 255)


def test_start_is_uniform_in_the_ball():
    """Those of PGD from the same seed."""
    x, y = oracles.smooth_batch()
    y = (y + 1) % 10  # wrong from the start: nothing moves
    model, module = oracles.smooth_pair()
    x_adv = CW(epsilon=0.01, steps=5, seed=3)(model, x, y)
    frozen = oracles.wrong(module, x_adv, y)
    assert frozen.mean() > 0.5
    size = oracles.size(x_adv - x, "linf")[frozen]
    assert (size <= 0.01 + 1e-6).all() and (size > 0.009).all()
    # PGD with a step too small to matter returns its start.
    pgd = PGD(epsilon=0.01, step_size=1e-30, steps=1, seed=3)
    start = pgd(model, x, y)
    np.testing.assert_allclose(x_adv[frozen], start[frozen], rtol=0, atol=1e-20)


@pytest.mark.parametrize("norm", NORMS)
def test_restarts_fool_whom_any_start_fools(norm):
    x, y = oracles.smooth_batch()
    model, module = oracles.smooth_pair()
    epsilon = oracles.EPSILON[norm] / 2
    starts = np.stack(
        [0.9 * oracles.noise(x, norm, epsilon, seed) for seed in range(3)]
    )
    arguments = {"epsilon": epsilon, "norm": norm, "steps": 1}
    found = CW(restarts=3, **arguments)(model, x, y, noise=starts)
    singles = [CW(**arguments)(model, x, y, noise=s) for s in starts]
    wrong = np.array([oracles.wrong(module, s, y) for s in singles])
    fooled = oracles.wrong(module, found, y)
    np.testing.assert_array_equal(fooled, wrong.any(0))
    assert 0 < fooled.sum() < len(x)
    # Else, the point of the highest margin.
    margins = [oracles.margin(module, s, y) for s in singles]
    np.testing.assert_allclose(
        oracles.margin(module, found, y)[~fooled],
        np.max(margins, axis=0)[~fooled],
        atol=1e-5,
    )


def test_maximize_raises_any_objective():
    x = ops.convert_to_tensor(oracles.smooth_batch()[0])
    attack = CW(epsilon=0.1, steps=10, seed=0)
    x_adv = attack.maximize(lambda x: ops.sum(x, axis=(1, 2, 3)), x)
    expected = np.clip(ops.convert_to_numpy(x) + 0.1, 0, 1)
    np.testing.assert_allclose(ops.convert_to_numpy(x_adv), expected, atol=1e-6)


def test_config_has_no_loss_and_no_start():
    attack = CW(epsilon=0.1, steps=3, restarts=2, norm="l2", seed=1)
    config = attack.get_config()
    assert not {"loss", "start", "start_scale", "clip_start"} & set(config)
    config = keras.saving.serialize_keras_object(attack)
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is CW and restored.loss == "margin"
    assert restored.get_config() == attack.get_config()
    with pytest.raises(TypeError):
        CW(epsilon=0.1, loss="cross_entropy")
    with pytest.raises(ValueError, match="swapped"):
        CW(epsilon=0.1, step_size=0.3)
