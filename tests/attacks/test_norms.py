"""The balls against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops

from keras_adaad.attacks.norms import NORMS
from keras_adaad.attacks.randomness import HostRNG


def size(delta, norm):
    flat = np.asarray(delta, "float64").reshape(len(delta), -1)
    return (
        np.abs(flat).max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    epsilon=st.floats(0.0, 3.0),
    scale=st.floats(0.0, 10.0),
)
def test_projection_is_the_nearest_point_of_the_ball(
    norm, seed, epsilon, scale
):
    generator = np.random.default_rng(seed)
    x = generator.uniform(size=(4, 3, 3, 2)).astype("float32")
    x_adv = x + scale * generator.normal(size=x.shape).astype("float32")
    projected = ops.convert_to_numpy(
        NORMS[norm].project(
            ops.convert_to_tensor(x_adv), ops.convert_to_tensor(x), epsilon
        )
    )
    delta = np.asarray(x_adv, "float64") - x
    if norm == "linf":
        expected = x + np.clip(delta, -epsilon, epsilon)
    else:
        length = size(delta, "l2")[:, None, None, None]
        expected = x + delta * np.minimum(
            1, epsilon / np.maximum(length, 1e-12)
        )
    np.testing.assert_allclose(projected, expected, atol=1e-5)
    assert (size(projected - x, norm) <= epsilon + 1e-5).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_direction_has_norm_one_and_ascends(norm):
    gradient = np.random.default_rng(0).normal(size=(4, 3, 3, 2))
    direction = ops.convert_to_numpy(
        NORMS[norm].direction(ops.convert_to_tensor(gradient, "float32"))
    )
    np.testing.assert_allclose(size(direction, norm), 1.0, rtol=1e-5)
    rise = (direction * gradient).sum((1, 2, 3))
    assert (rise > 0).all()
    # No step of norm 1 rises more than the dual norm.
    dual = NORMS[norm].dual_size(ops.convert_to_tensor(gradient, "float32"))
    assert dual.shape == (4, 1, 1, 1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(dual).reshape(-1), rise, rtol=1e-5
    )
    other = {"linf": 1, "l2": 2}[norm]
    expected = np.linalg.norm(gradient.reshape(4, -1), other, axis=1)
    np.testing.assert_allclose(rise, expected, rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_uniform_start_fills_the_ball_uniformly(norm):
    dimensions = 4
    noise = ops.convert_to_numpy(
        NORMS[norm].uniform((20000, 2, 2, 1), 0.5, HostRNG([0], range(20000)))
    )
    sizes = size(noise, norm)
    assert sizes.max() <= 0.5 + 1e-6
    # The share of a d-dimensional ball within radius r is r ** d.
    for share in (0.2, 0.5, 0.9):
        radius = 0.5 * share ** (1 / dimensions)
        assert (sizes < radius).mean() == pytest.approx(share, abs=0.02)
    np.testing.assert_allclose(noise.mean(0), 0.0, atol=0.01)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_host_draws_belong_to_the_image(kind):
    def draw(seed, rows):
        return getattr(HostRNG(seed, rows), kind)((len(rows), 3, 3))

    whole = draw([7], range(10))
    np.testing.assert_array_equal(whole[[8, 2]], draw([7], [8, 2]))
    assert np.abs(whole - draw([8], range(10))).max() > 0.1
    assert len(np.unique(whole)) == whole.size


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_sphere_has_norm_epsilon(norm):
    shape = (5, 4, 4, 1)
    noise = NORMS[norm].on_sphere(shape, 0.3, HostRNG([0], range(5)))
    np.testing.assert_allclose(
        size(ops.convert_to_numpy(noise), norm), 0.3, rtol=1e-6
    )
