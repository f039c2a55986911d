"""Margins and logits ratios, against NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops

from keras_adaad import backend
from keras_adaad.losses import dlr_from_logits
from keras_adaad.losses import margin_from_logits
from keras_adaad.losses import probability_margin_from_logits
from keras_adaad.losses import targeted_dlr_from_logits
from keras_adaad.losses import targeted_margin_from_logits

ROWS = np.arange(6)
seeds = given(seed=st.integers(0, 2**31))
few = settings(max_examples=20, deadline=None)


def margin(y, z):
    others = z.copy()
    others[ROWS, y] = -np.inf
    return others.max(1) - z[ROWS, y]


def probability_margin(y, z):
    p = np.exp(z.astype("float64") - z.max(1, keepdims=True))
    return margin(y, p / p.sum(1, keepdims=True))


def dlr(y, z):
    largest = np.sort(z, axis=1)[:, ::-1]
    right = z.argmax(1) == y
    other = np.where(right, largest[:, 1], largest[:, 0])
    return -(z[ROWS, y] - other) / (largest[:, 0] - largest[:, 2])


def targeted_dlr(y, t, z):
    largest = np.sort(z, axis=1)[:, ::-1]
    gap = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    return -(z[ROWS, y] - z[ROWS, t]) / gap


def draw(seed, num_classes=10):
    """Returns logits, labels (half of them right) and targets."""
    generator = np.random.default_rng(seed)
    z = (generator.normal(size=(6, num_classes)) * 4).astype("float32")
    y = generator.integers(num_classes, size=6)
    y[:3] = z[:3].argmax(1)
    t = (y + generator.integers(1, num_classes, size=6)) % num_classes
    return z, y.astype("int32"), t.astype("int32")


def compute(loss, *arguments):
    return ops.convert_to_numpy(
        loss(*[ops.convert_to_tensor(a) for a in arguments])
    )


@few
@seeds
def test_losses_are_their_formulas(seed):
    z, y, t = draw(seed)
    for found, expected in [
        (compute(margin_from_logits, y, z), margin(y, z)),
        (
            compute(probability_margin_from_logits, y, z),
            probability_margin(y, z),
        ),
        (compute(dlr_from_logits, y, z), dlr(y, z)),
        (compute(targeted_dlr_from_logits, y, t, z), targeted_dlr(y, t, z)),
        (
            compute(targeted_margin_from_logits, y, t, z),
            z[ROWS, t] - z[ROWS, y],
        ),
    ]:
        assert found.shape == (6,)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@few
@seeds
def test_sign_says_who_is_misclassified(seed):
    z, y, _ = draw(seed)
    right = z.argmax(1) == y
    assert right[:3].all()
    for loss in (
        margin_from_logits,
        probability_margin_from_logits,
        dlr_from_logits,
    ):
        np.testing.assert_array_equal(compute(loss, y, z) < 0.0, right)


@few
@given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([2.0**k for k in range(-10, 11)]),
    shift=st.integers(-8, 8),
)
def test_ratios_do_not_depend_on_scale_and_shift(seed, scale, shift):
    z, y, t = draw(seed)
    z = np.round(z * 4096) / 4096  # so that shifting is exact
    other = (scale * (z + shift)).astype("float32")
    for loss, labels in [
        (dlr_from_logits, [y]),
        (targeted_dlr_from_logits, [y, t]),
    ]:
        np.testing.assert_allclose(
            compute(loss, *labels, other),
            compute(loss, *labels, z),
            rtol=1e-5,
            atol=1e-6,
        )
    # Neither holds for the margin, which grows with the logits.
    np.testing.assert_allclose(
        compute(margin_from_logits, y, other),
        scale * compute(margin_from_logits, y, z),
        rtol=1e-5,
        atol=1e-6 * scale,
    )


def test_bounds_of_the_ratio():
    """A right sample has a ratio of -1 to 0; confidence does not saturate."""
    z, y, _ = draw(0)
    y = z.argmax(1)
    for scale in (1.0, 1e4):
        value = compute(dlr_from_logits, y, (scale * z).astype("float32"))
        assert ((value >= -1.0) & (value <= 0.0)).all()
        assert value.std() > 0.05


@pytest.mark.parametrize(
    "loss",
    [margin_from_logits, probability_margin_from_logits, dlr_from_logits],
    ids=["margin", "pma", "dlr"],
)
def test_labels_of_either_form(loss):
    z, y, _ = draw(1)
    expected = compute(loss, y, z)
    one_hot = np.eye(10, dtype="float32")[y]
    np.testing.assert_array_equal(compute(loss, one_hot, z), expected)
    column = y[:, None].astype("int64")
    np.testing.assert_array_equal(compute(loss, column, z), expected)


def test_as_few_classes_as_there_can_be():
    for num_classes, loss, oracle in [
        (2, margin_from_logits, margin),
        (2, probability_margin_from_logits, probability_margin),
        (3, dlr_from_logits, dlr),
    ]:
        z, y, _ = draw(2, num_classes)
        found = compute(loss, y, z)
        np.testing.assert_allclose(found, oracle(y, z), rtol=1e-4)
    z, y, t = draw(2, 4)
    found = compute(targeted_dlr_from_logits, y, t, z)
    np.testing.assert_allclose(found, targeted_dlr(y, t, z), rtol=1e-4)


def test_a_class_that_is_impossible_stays_out():
    z, y, t = draw(3)
    z[ROWS, (y + 1) % 10] = -np.inf
    t = np.where(t == (y + 1) % 10, (y + 2) % 10, t).astype("int32")
    found = compute(margin_from_logits, y, z)
    np.testing.assert_allclose(found, margin(y, z), rtol=1e-5)
    found = compute(targeted_margin_from_logits, y, t, z)
    np.testing.assert_allclose(found, z[ROWS, t] - z[ROWS, y], rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        margin_from_logits,
        probability_margin_from_logits,
        dlr_from_logits,
        targeted_dlr_from_logits,
    ],
    ids=["margin", "pma", "dlr", "targeted dlr"],
)
def test_gradient_is_that_of_finite_differences(loss):
    z, y, t = draw(4)
    targeted = loss is targeted_dlr_from_logits
    names = (y, t) if targeted else (y,)
    tensors = [ops.convert_to_tensor(a) for a in names]
    _, _, gradient = backend.value_and_input_gradient(
        lambda z: (loss(*tensors, z), ()), ops.convert_to_tensor(z)
    )
    gradient = ops.convert_to_numpy(gradient)
    oracle = {
        margin_from_logits: margin,
        probability_margin_from_logits: probability_margin,
        dlr_from_logits: dlr,
        targeted_dlr_from_logits: targeted_dlr,
    }[loss]
    z = z.astype("float64")
    for c in range(10):
        step = 1e-6 * np.eye(10)[c]
        numeric = (oracle(*names, z + step) - oracle(*names, z - step)) / 2e-6
        np.testing.assert_allclose(gradient[:, c], numeric, atol=1e-3)


def test_equal_logits_give_no_nan():
    z, y = np.zeros((6, 10), "float32"), np.zeros(6, "int32")
    for loss, labels in [
        (margin_from_logits, [y]),
        (probability_margin_from_logits, [y]),
        (dlr_from_logits, [y]),
        (targeted_dlr_from_logits, [y, y + 1]),
    ]:
        np.testing.assert_allclose(compute(loss, *labels, z), 0.0, atol=1e-6)


def test_probability_margin_keeps_its_gradient_where_the_model_is_sure():
    """In float32, 1 - p_y is 0 here, and the gradient of p_y would be lost."""
    z = np.array([[30.0, 1.0, 0.0, -1.0]], "float32")
    y = ops.convert_to_tensor([0])
    _, _, gradient = backend.value_and_input_gradient(
        lambda z: (probability_margin_from_logits(y, z), ()),
        ops.convert_to_tensor(z),
    )
    p = np.exp(z[0].astype("float64") - 30.0)
    p[0] = 1.0
    others = p[1:].sum()
    # From L = p_1 - p_0, with p_1 the largest of the others.
    expected = p * np.array([0.0, 2.0, 1.0, 1.0])
    expected[0] = -(p[1] + others)
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient)[0], expected, rtol=1e-4
    )
