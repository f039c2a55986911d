"""FAB: its projection against solvers, its steps against the published code."""

import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops
from pyautoattack.fab_projections import projection_l2
from pyautoattack.fab_projections import projection_linf
from scipy.optimize import linprog

from keras_adaad import backend
from keras_adaad.attacks import FAB
from keras_adaad.attacks.fab import onto_hyperplane
from keras_adaad.attacks.randomness import HostRNG
from keras_adaad.frozen.classifier import Classifier
from tests.oracles import attacks as oracles

NORMS = oracles.NORMS
# Everything counts that fools.
FAR = {"linf": 1.0, "l2": 8.0}


# The projection onto a hyperplane within a box.


@functools.cache
def projection(norm):
    return backend.compile_function(
        lambda x, slope, value, low, high: onto_hyperplane(
            x, slope, value, norm, low, high
        )
    )


def project(norm, x, slope, value, low=0.0, high=1.0):
    arrays = [np.asarray(a, "float32") for a in (x, slope, value)]
    return ops.convert_to_numpy(projection(norm)(*arrays, low, high))


def problems(seed, dimensions, count, low=0.0, high=1.0, spread=1.0):
    """Draws points, slopes and values of every kind.

    Some pixels are at the end of their range, some slopes are zero, and some
    hyperplanes miss the box. The last one is out of all reach.
    """
    generator = np.random.default_rng(seed)
    shape = (count, dimensions)
    x = generator.uniform(low, high, shape)
    ends = generator.choice([low, high], shape)
    x = np.where(generator.random(shape) < 0.2, ends, x).astype("float32")
    slope = generator.normal(size=shape) * 10 ** generator.uniform(
        -spread, spread, shape
    )
    slope[generator.random(shape) < 0.2] = 0.0
    slope = slope.astype("float32")
    corner = np.where(slope > 0, high - x, low - x) * slope
    other = np.where(slope > 0, low - x, high - x) * slope
    share = generator.uniform(-1.2, 1.2, count)
    value = -np.where(
        share > 0, share * corner.sum(1), -share * other.sum(1)
    ).astype("float32")
    value[-1] = 1e3 * (1.0 + np.abs(slope[-1]).sum())
    value[0], slope[1] = 0.0, 0.0
    return x, slope, value


def best_linf(x, slope, value, low, high):
    """The smallest reach of a box-bound solution, as a linear programme."""
    d = len(x)
    bound = np.concatenate([np.eye(d), -np.eye(d)])
    found = linprog(
        np.eye(d + 1)[-1],
        A_ub=np.hstack([bound, -np.ones((2 * d, 1))]),
        b_ub=np.zeros(2 * d),
        A_eq=np.append(slope, 0.0)[None],
        b_eq=[-value],
        bounds=[*zip(low - x, high - x, strict=True), (0.0, None)],
    )
    return found.fun if found.status == 0 else None


def best_l2(x, slope, value, low, high):
    """The shortest of all points where pixels are free or at an end."""
    ends = np.array(list(itertools.product([np.nan, low, high], repeat=len(x))))
    fixed = np.nan_to_num(ends - x)
    free = np.isnan(ends) * slope
    squares = (free**2).sum(1)
    left = value + fixed @ slope
    share = np.divide(left, squares, where=squares > 0.0, out=0.0 * left)
    d = fixed - free * share[:, None]
    feasible = np.abs(value + d @ slope) < 1e-6 * np.abs(slope).sum()
    inside = (x + d >= low - 1e-9) & (x + d <= high + 1e-9)
    feasible &= inside.all(1)
    return np.linalg.norm(d[feasible], axis=1).min() if feasible.any() else None


BEST = {"linf": best_linf, "l2": best_l2}


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    box=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-2.0, 3.0)]),
)
def test_projection_is_the_nearest_point(norm, seed, box):
    low, high = box
    x, slope, value = problems(seed, 6, 8, *box)
    d = project(norm, x, slope, value, low, high).astype("float64")
    x, slope, value = (a.astype("float64") for a in (x, slope, value))
    assert np.isfinite(d).all()
    assert (x + d >= low - 1e-6).all() and (x + d <= high + 1e-6).all()
    assert (d[slope == 0.0] == 0.0).all()
    reach = np.where(value[:, None] * slope > 0, low - x, high - x)
    reach = np.where(slope == 0.0, 0.0, reach)
    needed = np.abs(value) / np.maximum(np.abs(slope * reach).sum(1), 1e-30)
    missed = needed > 1.0
    assert missed[-1] and missed[1] == (value[1] != 0.0) and not missed[0]
    # What misses the box is approached as far as the box goes.
    np.testing.assert_allclose(d[missed], reach[missed], atol=1e-6)
    scale = 1.0 + np.abs(slope).sum(1)
    left = (value + (slope * d).sum(1)) / scale
    np.testing.assert_allclose(left[~missed], 0.0, atol=1e-5)
    sizes = oracles.size(d, norm)
    for row in np.flatnonzero(~missed & (slope != 0.0).any(1)):
        best = BEST[norm](x[row], slope[row], value[row], low, high)
        assert best is not None or needed[row] > 0.999
        if best is not None:
            assert sizes[row] == pytest.approx(best, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_the_published_one(norm, spread):
    published = {"linf": projection_linf, "l2": projection_l2}[norm]
    x, slope, value = problems(7, 192, 64, spread=spread)
    # A hyperplane without a slope divides by zero in the published code.
    slope[1] = 1.0
    d = project(norm, x, slope, value)
    offset = (slope.astype("float64") * x).sum(1) - value
    expected = published(
        *[torch.tensor(a, dtype=torch.float64) for a in (x, slope, offset)]
    ).numpy()
    np.testing.assert_allclose(d, expected, atol=2e-5)
    np.testing.assert_allclose(
        oracles.size(d, norm), oracles.size(expected, norm), atol=2e-5
    )
    # Beside the easy ones, there are pixels that meet the end of their range.
    ends = (x + expected < 1e-6) | (x + expected > 1 - 1e-6)
    moved = np.abs(expected) > 1e-6
    assert (ends & moved).any(1).mean() > 0.5
    assert (~ends & moved).any(1).mean() > 0.3


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    spread=st.floats(0.0, 4.0),
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]),
)
def test_projection_survives_any_scale(norm, seed, spread, scale):
    """Slopes over many orders of magnitude, and the units of the logits."""
    x, slope, value = problems(seed, 192, 64, spread=spread)
    slope, value = scale * slope, scale * value
    d = project(norm, x, slope, value).astype("float64")
    x, slope, value = (a.astype("float64") for a in (x, slope, value))
    assert np.isfinite(d).all()
    assert (x + d >= -1e-6).all() and (x + d <= 1 + 1e-6).all()
    reach = np.where(value[:, None] * slope > 0, -x, 1 - x)
    room = np.abs(reach * slope).sum(1)
    left = np.abs(value + (slope * d).sum(1))
    expected = np.maximum(np.abs(value) - room, 0.0)
    total = np.abs(slope).sum(1) + np.abs(value) + 1e-30
    assert (np.abs(left - expected) / total).max() < 1e-5


# One run, against the published one.


def published(norm, targeted, steps, epsilon=None):
    """Returns the closest point that fools, whatever its distance."""
    x, y = oracles.smooth_batch()
    attack = oracles.fab(oracles.smooth_pair()[1], norm, FAR[norm], steps)
    attack.target_class = 2
    found = attack.attack_single_run(
        oracles.to_torch(x), oracles.labels(y), is_targeted=targeted
    )
    return oracles.to_keras(found)


def ours(norm, targeted, steps, **arguments):
    x, y = oracles.smooth_batch()
    attack = FAB(
        epsilon=FAR[norm],
        norm=norm,
        steps=steps,
        targets=1 if targeted else None,
        **arguments,
    )
    return attack(oracles.smooth_pair()[0], x, y)


@pytest.mark.parametrize("steps", [1, 5, 30])
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_closest_point_is_the_published_one(norm, targeted, steps):
    x, y = oracles.smooth_batch()
    module = oracles.smooth_pair()[1]
    expected = published(norm, targeted, steps)
    found = ours(norm, targeted, steps)
    fooled = oracles.wrong(module, expected, y)
    np.testing.assert_array_equal(oracles.wrong(module, found, y), fooled)
    assert fooled.mean() > 0.5
    if steps <= 5:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(
        oracles.size(found - x, norm),
        oracles.size(expected - x, norm),
        rtol=1e-3 if steps <= 5 else 0.02,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_walks_to_the_nearest_boundary(norm):
    """More steps come closer; beyond the boundary, but hardly."""
    x, y = oracles.smooth_batch()
    module = oracles.smooth_pair()[1]
    sizes = []
    for steps in (1, 5, 30):
        found = ours(norm, False, steps)
        size = oracles.size(found - x, norm)
        sizes.append(np.where(oracles.wrong(module, found, y), size, np.inf))
    assert (np.diff(sizes, axis=0) <= 1e-6).all()
    assert np.isfinite(sizes[-1]).all()
    margin = oracles.margin(module, found, y)
    assert (margin > 0.0).all()
    short = x + 0.9 * (found - x)
    assert (oracles.margin(module, short, y) < 0.0).mean() > 0.9


# What counts as a success.


@pytest.mark.parametrize("targets", [1, None])
@pytest.mark.parametrize("norm", NORMS)
def test_only_points_within_epsilon_count(norm, targets):
    x, y = oracles.smooth_batch()
    model, module = oracles.smooth_pair()
    far = ours(norm, targets is not None, 10)
    sizes = oracles.size(far - x, norm)
    epsilon = float(np.median(sizes))
    attack = FAB(epsilon=epsilon, norm=norm, steps=10, targets=targets)
    found = attack(model, x, y)
    near = sizes <= epsilon
    assert 0 < near.sum() < len(x)
    np.testing.assert_allclose(found[near], far[near], atol=1e-5)
    np.testing.assert_array_equal(found[~near], x[~near])
    np.testing.assert_array_equal(oracles.wrong(module, found, y), near)


def test_first_start_is_the_clean_image_others_are_near():
    x, _ = oracles.smooth_batch()
    for norm in NORMS:
        attack = FAB(epsilon=0.2, norm=norm, targets=2, restarts=3)
        assert attack._rounds(10) == 6
        assert FAB(epsilon=0.2, targets=None, restarts=3)._starts(10) == 3
        for round_ in range(6):
            draws = HostRNG([0, round_], range(len(x)))
            noise = attack._start(x, x, draws, round_)
            if round_ in (0, 3):
                assert noise is None
            else:
                size = oracles.size(noise, norm)
                np.testing.assert_allclose(size, 0.1, rtol=1e-5)


def test_targets_are_the_runners_up():
    model, module = oracles.smooth_pair()
    x, _ = oracles.smooth_batch()
    attack = FAB(epsilon=0.1, targets=2)
    found = attack._target_classes(Classifier.of(model, 10), x, 16)
    ranking = np.argsort(-oracles.logits(module, x))
    np.testing.assert_array_equal(found, ranking[:, 1:3].T)
    assert FAB(epsilon=0.1)._starts(10) == 9
    attack = FAB(epsilon=0.1, targets=None)
    assert attack._target_classes(Classifier.of(model, 10), x, 16) is None


def test_no_gradient_no_harm():
    x, _ = oracles.smooth_batch()
    y = np.zeros(len(x), "int32")
    attack = FAB(epsilon=0.1, norm="l2", steps=3, targets=None)
    x_adv = attack(oracles.constant_model(), x, y)
    np.testing.assert_array_equal(x_adv, x)


def one_step(attack, objective, x):
    """Returns the state after the first step from the clean image."""

    def search(x, setting):
        state = attack.begin(objective, x, None, setting)
        return attack.step(objective, x, state, setting)

    state = backend.compile_function(search)(x, {"epsilon": 1.0})
    return {k: ops.convert_to_numpy(v) for k, v in state.items()}


def test_overshoot_and_way_back_are_arguments():
    """Against the formula, in one dimension per pixel: a linear model."""
    x = ops.convert_to_tensor(np.full((1, 2, 2, 1), 0.5, "float32"))
    slope = ops.convert_to_tensor(
        np.array([[[[1.0], [-2.0]], [[0.5], [0.0]]]], "float32")
    )

    def objective(x):
        value = ops.sum(slope * x, axis=(1, 2, 3)) - 0.2
        return value, value >= 0.0

    # The value at x is -0.45, so the boundary is 0.45 / 3.5 away.
    attack = FAB(epsilon=1.0, eta=1.2, beta=0.5, alpha_max=0.1)
    state = one_step(attack, objective, x)
    way = np.array([[[[1.0], [-1.0]], [[1.0], [0.0]]]])
    move = 1.2 * 0.45 / 3.5 * way
    np.testing.assert_allclose(state["closest"], 0.5 + move, atol=1e-6)
    np.testing.assert_allclose(state["x_adv"], 0.5 + 0.5 * move, atol=1e-6)
    np.testing.assert_allclose(state["distance"], 1.2 * 0.45 / 3.5, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_untargeted_walks_to_the_nearest_boundary_of_the_norm(norm):
    """A slope of one pixel, against one that is spread over all four."""
    x = ops.convert_to_tensor(np.full((1, 2, 2, 1), 0.5, "float32"))
    slopes = ops.convert_to_tensor(
        np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0.5] * 4], "float32")
    )

    def objective(x):
        moved = ops.reshape(x, (-1, 4)) - 0.5
        values = ops.matmul(moved, ops.transpose(slopes))
        values = values + ops.convert_to_tensor([[1e10, -0.1, -0.15]])
        return values, ops.max(values[:, 1:], axis=-1) >= 0.0

    # 0.1 or 0.15 / 2 away in L-infinity; 0.1 or 0.15 away in L2.
    expected = {"linf": [0.075] * 4, "l2": [0.1, 0, 0, 0]}[norm]
    attack = FAB(epsilon=1.0, norm=norm, targets=None, eta=1.01)
    state = one_step(attack, objective, x)
    moved = state["closest"].reshape(4) - 0.5
    np.testing.assert_allclose(moved, 1.01 * np.array(expected), atol=1e-5)
