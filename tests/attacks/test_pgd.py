"""PGD and FGSM: what holds for every attack, and what they must find."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops

from keras_adaad.attacks import FGSM
from keras_adaad.attacks import PGD
from keras_adaad.losses import cross_entropy_from_logits
from tests import networks
from tests.attacks.test_norms import size

# Arguments of every kind of attack there is.
ATTACKS = [
    PGD(epsilon=0.1, steps=3, seed=0),
    PGD(epsilon=0.1, steps=3, start="normal", clip_start=False, seed=0),
    PGD(epsilon=0.1, step_size=0.1, steps=3, start=None),
    PGD(epsilon=0.6, steps=3, norm="l2", seed=0),
    PGD(epsilon=0.6, steps=3, norm="l2", start="normal", restarts=2, seed=0),
    FGSM(epsilon=0.1),
    FGSM(epsilon=0.6, norm="l2"),
]


def cross_entropy(model, x, y):
    logits = model(ops.convert_to_tensor(x), training=False)
    return ops.convert_to_numpy(
        cross_entropy_from_logits(ops.convert_to_tensor(y), logits)
    )


def brightest(labels, logits):
    """A loss of the user's own."""
    return ops.max(logits, axis=-1)


@pytest.fixture(scope="module")
def model():
    """One network: tests share the programs that are compiled for it."""
    keras.utils.set_random_seed(0)
    return networks.student_net()


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_invariants(model, batch, attack):
    x, y = batch
    before = networks.snapshot(model)
    x_adv = attack(model, x, y)
    networks.assert_same(before, networks.snapshot(model))
    assert x_adv.shape == x.shape and x_adv.dtype == np.float32
    assert np.isfinite(x_adv).all()
    assert x_adv.min() >= 0.0 and x_adv.max() <= 1.0
    assert (size(x_adv - x, attack.norm) <= attack.epsilon + 1e-6).all()
    assert cross_entropy(model, x_adv, y).mean() > (
        cross_entropy(model, x, y).mean()
    )
    np.testing.assert_array_equal(x_adv, attack(model, x, y))


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_batch_size_does_not_change_the_result(model, batch, attack):
    x, y = batch
    whole = attack(model, x, y)
    parts = attack(model, x, y, batch_size=12)
    first = attack(model, x[:5], y[:5])
    assert (np.abs(parts - whole) < 1e-5).mean() > 0.999
    assert (np.abs(first - whole[:5]) < 1e-5).mean() > 0.99


def test_the_start_is_in_the_scaled_ball():
    """Everywhere in it: where nothing rises, it is the result."""
    x = ops.full((4, 8, 8, 1), 0.5)
    x_adv = PGD(epsilon=0.1, steps=1, seed=0).maximize(
        lambda x: ops.sum(0.0 * x, axis=(1, 2, 3)), x, scale=0.25
    )
    size = np.abs(ops.convert_to_numpy(x_adv - x))
    assert size.max() <= 0.025 * (1 + 1e-5)
    assert 0.4 < (size < 0.0125).mean() < 0.6


@settings(max_examples=15, deadline=None)
@given(
    # A quarter of the smallest number is 0, which is no step size.
    epsilon=st.floats(0.0, 2.0, allow_subnormal=False),
    norm=st.sampled_from(["linf", "l2"]),
    start=st.sampled_from(["uniform", "normal", None]),
    clip_start=st.booleans(),
    low=st.floats(-3.0, 0.0),
    width=st.floats(0.5, 300.0),
    seed=st.integers(0, 2**31),
)
def test_ball_and_range_hold_for_any_arguments(
    epsilon, norm, start, clip_start, low, width, seed
):
    attack = PGD(
        epsilon=epsilon,
        steps=2,
        norm=norm,
        start=start,
        start_scale=width,
        clip_start=clip_start,
        input_range=(low, low + width),
        seed=seed,
    )
    generator = np.random.default_rng(seed)
    x = low + width * generator.uniform(size=(3, 4, 4, 1)).astype("float32")
    weights = ops.convert_to_tensor(generator.normal(size=x.shape), "float32")
    x = np.clip(x, *attack.input_range).astype("float32")
    x_adv = ops.convert_to_numpy(
        attack.maximize(
            lambda x: ops.sum(ops.sin(x) * weights, axis=(1, 2, 3)),
            ops.convert_to_tensor(x),
        )
    )
    tolerance = 1e-6 * (abs(low) + width) * 4
    assert np.isfinite(x_adv).all()
    assert x_adv.min() >= low - tolerance
    assert x_adv.max() <= low + width + tolerance
    assert (size(x_adv - x, norm) <= epsilon + tolerance * 4).all()
    if epsilon == 0.0:
        np.testing.assert_allclose(x_adv, x, atol=tolerance)


def test_linear_objective_is_solved(batch):
    """The maximum of a linear function over the box is known."""
    x = batch[0]
    weights = np.random.default_rng(0).normal(size=x.shape).astype("float32")
    slope = ops.convert_to_tensor(weights)
    x_adv = PGD(epsilon=0.1, steps=10, seed=0).maximize(
        lambda x: ops.sum(x * slope, axis=(1, 2, 3)), ops.convert_to_tensor(x)
    )
    expected = np.clip(x + 0.1 * np.sign(weights), 0.0, 1.0)
    np.testing.assert_allclose(ops.convert_to_numpy(x_adv), expected, atol=1e-6)


def test_fgsm_is_the_formula(batch):
    x, y = batch
    model = networks.dense_net()
    kernel = [ops.convert_to_numpy(w) for w in model.weights]
    hidden = np.tanh(x.reshape(32, -1) @ kernel[0] + kernel[1])
    logits = hidden @ kernel[2] + kernel[3]
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    error = exponentials / exponentials.sum(1, keepdims=True) - np.eye(10)[y]
    gradient = ((error @ kernel[2].T) * (1 - hidden**2)) @ kernel[0].T
    expected = np.clip(x + 0.1 * np.sign(gradient).reshape(x.shape), 0, 1)
    x_adv = FGSM(epsilon=0.1)(model, x, y)
    assert (np.abs(x_adv - expected) < 1e-5).mean() > 0.999


def test_seed_decides(model, batch):
    x, y = batch
    runs = [PGD(epsilon=0.1, steps=2, seed=s)(model, x, y) for s in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-3
    unseeded = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        unseeded.append(PGD(epsilon=0.1, steps=2)(model, x, y))
    np.testing.assert_array_equal(*unseeded)


def test_restarts_keep_the_best(model, batch):
    x, y = batch
    y = model.predict(x, verbose=0).argmax(-1)
    attack = PGD(epsilon=0.2, step_size=0.01, steps=2, restarts=4, seed=0)
    x_adv = attack(model, x, y)

    def wrong(x):
        logits = model(ops.convert_to_tensor(x), training=False)
        return ops.convert_to_numpy(logits).argmax(-1) != y

    generator = np.random.default_rng(0)
    starts = generator.uniform(-0.2, 0.2, (4, *x.shape)).astype("float32")
    best = attack(model, x, y, noise=starts)
    single = PGD(epsilon=0.2, step_size=0.01, steps=2)
    robust = ~wrong(best)
    assert robust.any()
    for start in starts:
        one = single(model, x, y, noise=start)
        assert (wrong(best) >= wrong(one)).all()
        ahead = cross_entropy(model, best, y) - cross_entropy(model, one, y)
        assert (ahead[robust] > -1e-4).all()
    assert np.abs(x_adv - best).max() > 0


def test_own_loss_is_raised(model, batch):
    x, y = batch
    x_adv = PGD(epsilon=0.2, loss=brightest, seed=0)(model, x, y)
    before = ops.convert_to_numpy(model(ops.convert_to_tensor(x))).max(-1)
    after = ops.convert_to_numpy(model(ops.convert_to_tensor(x_adv))).max(-1)
    assert after.mean() > before.mean()


def test_new_weights_need_no_new_attack(batch):
    x, y = batch
    model, attack = networks.student_net(), PGD(epsilon=0.1, seed=0)
    attack(model, x, y)
    other = networks.teacher_net()
    model.set_weights([w + 0.1 * np.sign(w) for w in model.get_weights()])
    fresh = PGD(epsilon=0.1, seed=0)
    np.testing.assert_array_equal(attack(model, x, y), fresh(model, x, y))
    np.testing.assert_array_equal(attack(other, x, y), fresh(other, x, y))


def test_unbuilt_model_and_one_hot_labels(batch):
    x, y = batch
    model = networks.Subclassed(8)
    one_hot = np.eye(10, dtype="float32")[y]
    attack = PGD(epsilon=0.1, seed=0)
    x_adv = attack(model, x, one_hot)
    np.testing.assert_array_equal(x_adv, attack(model, x, y))


def test_float16_model_gets_a_float32_attack(batch):
    keras.config.set_dtype_policy("mixed_float16")
    x, y = batch
    model = networks.student_net()
    assert model.compute_dtype == "float16"
    x_adv = PGD(epsilon=0.003, steps=10, seed=0)(model, x, y)
    assert x_adv.dtype == np.float32
    assert np.abs(x_adv - x).max() == pytest.approx(0.003, abs=1e-6)
    assert cross_entropy(model, x_adv, y).mean() > (
        cross_entropy(model, x, y).mean()
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_serialization(attack):
    config = keras.saving.serialize_keras_object(attack)
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is type(attack)
    assert restored.get_config() == attack.get_config()
