"""FMN: its steps against a transcription of the paper's algorithm."""

import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops

import keras_adaad
from keras_adaad import attacks
from keras_adaad.attacks import FMN
from tests.oracles import attacks as oracles
from tests.oracles.fmn import fmn_states
from tests.oracles.fmn import fmn_step

NORMS = oracles.NORMS
STEPS = 30
# Everything counts that fools.
FAR = {"linf": 1.0, "l2": 8.0}


@functools.cache
def batch():
    """Returns digits, every second one in grey, and the predicted classes.

    Where pixels are at an end of their range, as those of digits are, the L2
    search often stalls just before the boundary.
    """
    x = oracles.smooth_batch(32)[0].copy()
    x[1::2] = 0.2 + 0.6 * x[1::2]
    y = oracles.logits(oracles.smooth_pair()[1], x).argmax(-1)
    return x, y.astype("int32")


@functools.cache
def states(norm):
    """Returns our states, at the start and after each step."""
    x, y = batch()
    attack = FMN(epsilon=FAR[norm], norm=norm, steps=STEPS)
    model = oracles.smooth_pair()[0]
    return oracles.states(attack, model, x, y, np.zeros_like(x))


@functools.cache
def expected(norm):
    x, y = batch()
    return fmn_states(oracles.smooth_pair()[1], norm, x, y, STEPS)


def over_steps(norm, name):
    """Returns a part of our states, of shape `(steps + 1, images, ...)`."""
    return np.stack([state[name] for state in states(norm)])


def share_close(found, expected, atol=1e-4):
    """Returns the share of images that agree in every part of the state."""
    close = []
    for name in found:
        a = np.asarray(found[name], "float64").reshape(len(found["x_adv"]), -1)
        b = np.asarray(expected[name], "float64").reshape(a.shape)
        close.append(np.isclose(a, b, rtol=0.0, atol=atol).all(1))
    return np.all(close, axis=0).mean()


# The search.


@pytest.mark.parametrize("norm", NORMS)
def test_states_are_those_of_the_paper(norm):
    # The search comes ever closer to the boundary, where rounding decides.
    for step, least in {
        0: 1.0,
        1: 1.0,
        2: 0.9,
        3: 0.9,
        5: 0.8,
        8: 0.75,
    }.items():
        share = share_close(states(norm)[step], expected(norm)[step])
        assert share >= least, f"{step=}"


@pytest.mark.parametrize("norm", NORMS)
def test_each_step_is_the_papers(norm):
    """From our own state, so that no rounding grows over the steps."""
    x, y = batch()
    module = oracles.smooth_pair()[1]
    shares = [
        share_close(after, fmn_step(module, norm, x, y, before, k, STEPS))
        for k, (before, after) in enumerate(itertools.pairwise(states(norm)))
    ]
    assert len(shares) == STEPS
    assert np.mean(shares) > 0.98 and min(shares) >= 0.8


@pytest.mark.parametrize("norm", NORMS)
def test_every_case_of_the_radius_occurs(norm):
    """Not found yet, lost again, fooled: else the comparison shows little."""
    radius = over_steps(norm, "radius")
    found = np.isfinite(over_steps(norm, "distance"))
    assert not found[:2].any() and found[-1].any()
    grows, shrinks = radius[1:] > radius[:-1], radius[1:] < radius[:-1]
    assert (found[:-1] & grows).any() and (found[:-1] & shrinks).any()


@pytest.mark.parametrize("norm", NORMS)
def test_smallest_perturbations_are_those_of_the_paper(norm):
    x, y = batch()
    model, module = oracles.smooth_pair()
    found = FMN(epsilon=FAR[norm], norm=norm, steps=STEPS)(model, x, y)
    wanted = np.array(expected(norm)[-1]["distance"])
    fooled = np.isfinite(wanted)
    assert fooled.mean() > 0.5
    # Rounding may decide who is fooled by a hair.
    moved = (found != x).any((1, 2, 3))
    assert (moved == fooled).mean() > 0.8
    fooled &= moved
    sizes = oracles.size(found - x, norm)
    np.testing.assert_allclose(
        np.median(sizes[fooled]), np.median(wanted[fooled]), rtol=0.02
    )
    apart = np.abs(sizes / np.where(fooled, wanted, 1.0) - 1.0)[fooled]
    assert (apart <= 0.05).mean() >= 0.95
    # They are on the boundary: nine tenths of the way fool nobody.
    short = x + 0.9 * (found - x)
    assert not oracles.wrong(module, short, y).any()
    assert (np.abs(oracles.margin(module, found, y)[fooled]) < 0.1).all()


@pytest.mark.once
def test_lengths_fall_along_a_cosine():
    settings = FMN(epsilon=0.1, steps=4, step_size=2.0, gamma=0.2).settings(
        oracles.SHAPE, 0
    )
    shares = (1.0 + np.cos(np.pi * np.arange(4) / 4)) / 2.0
    np.testing.assert_allclose(
        [s["step_size"] for s in settings], 0.02 + 1.98 * shares
    )
    np.testing.assert_allclose(
        [s["gamma"] for s in settings], 0.001 + 0.199 * shares
    )
    assert {s["epsilon"] for s in settings} == {0.1}
    assert len(FMN(epsilon=0.1).settings(oracles.SHAPE, 0)) == 100


@pytest.mark.parametrize("norm", NORMS)
def test_another_range_is_the_same_search(norm):
    """On images in [-1, 1], everything is twice as long."""
    x, y = batch()
    attack = FMN(
        epsilon=2.0 * FAR[norm], norm=norm, steps=5, input_range=(-1.0, 1.0)
    )
    assert attack.step_size == 2.0
    model = oracles.smooth_pair(10, -1.0, 1.0)[0]
    states = oracles.states(attack, model, 2.0 * x - 1.0, y, np.zeros_like(x))
    scaled = FMN(epsilon=FAR[norm], norm=norm, steps=5)
    wanted = oracles.states(
        scaled, oracles.smooth_pair()[0], x, y, np.zeros_like(x)
    )
    for found, state in zip(states[:4], wanted[:4], strict=True):
        np.testing.assert_allclose(
            (found["x_adv"] + 1.0) / 2.0, state["x_adv"], atol=1e-4
        )
        np.testing.assert_allclose(
            found["radius"] / 2.0, state["radius"], atol=1e-4
        )


@pytest.mark.parametrize("norm", NORMS)
def test_steps_come_closer_within_ball_and_range(norm):
    distance = over_steps(norm, "distance")
    assert (distance[1:] <= distance[:-1]).all()
    x, _ = batch()
    for state in states(norm):
        assert (state["x_adv"] >= 0.0).all() and (state["x_adv"] <= 1.0).all()
        size = oracles.size(state["x_adv"] - x, norm)
        assert (size <= state["radius"] + 1e-5).all()


def test_a_start_that_fools_is_brought_closer():
    """FMN may start anywhere: at the point that another attack found."""
    x, y = batch()
    model, module = oracles.smooth_pair()
    start = attacks.PGD(epsilon=2.0, norm="l2", steps=20, seed=0)(model, x, y)
    assert oracles.wrong(module, start, y).all()
    attack = FMN(epsilon=8.0, norm="l2", steps=STEPS)
    found = attack(model, x, y, noise=start - x)
    assert oracles.wrong(module, found, y).all()
    sizes = oracles.size(found - x, "l2")
    assert (sizes < 0.8 * oracles.size(start - x, "l2")).all()


# What counts as a success.


@pytest.mark.parametrize("norm", NORMS)
def test_only_points_within_epsilon_count(norm):
    x, y = batch()
    model = oracles.smooth_pair()[0]
    far = FMN(epsilon=FAR[norm], norm=norm, steps=STEPS)(model, x, y)
    sizes = oracles.size(far - x, norm)
    sizes[(far == x).all((1, 2, 3))] = np.inf
    ordered = np.sort(sizes)
    # Between two images, so that rounding decides nothing.
    epsilon = float((ordered[5] + ordered[6]) / 2.0)
    found = FMN(epsilon=epsilon, norm=norm, steps=STEPS)(model, x, y)
    near = sizes <= epsilon
    assert near.sum() == 6
    np.testing.assert_allclose(found[near], far[near], atol=1e-6)
    np.testing.assert_array_equal(found[~near], x[~near])
    assert (oracles.size(found - x, norm) <= epsilon).all()
    report = keras_adaad.evaluate_robustness(
        model,
        x,
        y,
        [FMN(epsilon=epsilon, norm=norm, steps=STEPS)],
        epsilon,
        norm=norm,
        verbose=0,
        curve=False,
    )
    np.testing.assert_array_equal(report.robust, ~near)


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_wrong_already_stays(norm):
    x, y = batch()
    attack = FMN(epsilon=FAR[norm], norm=norm, steps=3)
    x_adv = attack(oracles.smooth_pair()[0], x, (y + 1) % 10)
    np.testing.assert_array_equal(x_adv, x)


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_no_harm(norm):
    x, _ = batch()
    attack = FMN(epsilon=FAR[norm], norm=norm, steps=3)
    x_adv = attack(oracles.constant_model(), x, np.zeros(len(x), "int32"))
    np.testing.assert_array_equal(x_adv, x)


# Its name and arguments.


@pytest.mark.once
def test_preset_and_config():
    attack = attacks.get("fmn", epsilon=0.1, norm="l2", seed=3)
    assert type(attack) is FMN and attack.steps == 100
    assert (attack.norm, attack.step_size, attack.gamma) == ("l2", 1.0, 0.05)
    attack = FMN(epsilon=0.1, steps=3, gamma=0.1, input_range=(-1, 1))
    config = keras.saving.serialize_keras_object(attack)
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is FMN
    assert restored.get_config() == attack.get_config()
    assert restored.step_size == 2.0
    for name in ("loss", "seed", "restarts"):
        with pytest.raises(TypeError):
            FMN(epsilon=0.1, **{name: 1})


def test_one_step_of_a_linear_model():
    """By hand: the boundary is 0.7 / 3.5 away, all pixels move alike."""
    x = ops.convert_to_tensor(np.full((1, 2, 2, 1), 0.5, "float32"))
    slope = ops.convert_to_tensor(
        np.array([[[[1.0], [-2.0]], [[0.5], [0.0]]]], "float32")
    )

    def objective(x):
        value = ops.sum(slope * (x - 0.5), axis=(1, 2, 3)) - 0.7
        return value, value >= 0.0

    attack = FMN(epsilon=1.0)
    setting = {"epsilon": 1.0, "step_size": 10.0, "gamma": 0.5}
    state = attack.begin(objective, x, None, setting)
    state = attack.step(objective, x, state, setting)
    np.testing.assert_allclose(state["radius"], [0.2], rtol=1e-5)
    way = np.array([[[[1.0], [-1.0]], [[1.0], [0.0]]]])
    found = ops.convert_to_numpy(state["x_adv"])
    np.testing.assert_allclose(found, 0.5 + 0.2 * way, atol=1e-6)
