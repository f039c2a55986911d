"""Auto-PGD against the published code, step by step."""

import numpy as np
import pytest
from keras import ops

from keras_adaad.attacks import APGD
from keras_adaad.attacks import TargetedAPGD
from keras_adaad.attacks.apgd import checkpoints
from tests.attacks import oracles

LOSSES = ("cross_entropy", "dlr", "targeted")
CASES = [(loss, norm) for loss in LOSSES for norm in oracles.NORMS]


def apgd(loss, **arguments):
    if loss == "targeted":
        return TargetedAPGD(targets=1, **arguments)
    return APGD(loss=loss, **arguments)


def reference_checkpoints(steps):
    """The counters of `attack_single_run`, without the attack."""
    interval = max(int(0.22 * steps), 1)
    since, found = 0, []
    for i in range(steps):
        since += 1
        if since == interval:
            found.append((i + 1, interval))
            interval = max(
                interval - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)
            )
            since = 0
    return found


def test_checkpoints():
    steps = [step for step, _ in checkpoints(100)]
    assert steps == [22, 41, 57, 70, 80, 87, 93, 99]
    for steps in range(1, 301):
        assert checkpoints(steps) == reference_checkpoints(steps)


def test_settings_of_the_steps():
    settings = APGD(epsilon=0.1).settings(oracles.SHAPE, 0)
    assert len(settings) == 100
    assert [s["share"] for s in settings] == [1.0] + 99 * [0.75]
    intervals = [s["interval"] for s in settings if s["interval"]]
    assert intervals == [22, 19, 16, 13, 10, 7, 6, 6]


@pytest.fixture(scope="module")
def runs():
    """100 steps of every case, ours and the published ones."""
    model, module = oracles.smooth_pair()
    x, y = oracles.smooth_batch()
    found = {}
    for loss, norm in CASES:
        epsilon = oracles.EPSILON[norm]
        start = oracles.noise(x, norm, epsilon)
        attack = apgd(loss, epsilon=epsilon, norm=norm)
        with oracles.recording(module) as seen:
            oracles.apgd_run(module, norm, epsilon, 100, loss, x, y, x + start)
        # The first image that the targeted attack shows is the clean one.
        seen = seen[len(seen) - 101 :]
        states = oracles.states(attack, model, x, y, start)
        found[loss, norm] = attack, states, seen
    return found


@pytest.mark.parametrize("loss, norm", CASES)
def test_iterates_are_the_published_ones(runs, loss, norm):
    _, states, seen = runs[loss, norm]
    for step in (0, 1, 2, 5, 21):
        np.testing.assert_allclose(
            states[step]["x_adv"], seen[step], atol=1e-5, err_msg=f"{step=}"
        )
    # Beyond a checkpoint, from where the search goes back to its best point.
    for step in (23, 24, 30):
        np.testing.assert_allclose(
            states[step]["x_adv"], seen[step], atol=1e-4, err_msg=f"{step=}"
        )


@pytest.mark.parametrize("steps", [1, 5, 22, 50])
@pytest.mark.parametrize("loss, norm", CASES)
def test_points_found_are_the_published_ones(runs, loss, norm, steps):
    """The last point that fools the model, else the one of highest loss."""
    x, y = oracles.smooth_batch()
    module = oracles.smooth_pair()[1]
    epsilon = oracles.EPSILON[norm]
    start = x + oracles.noise(x, norm, epsilon)
    # The reference plans its checkpoints for the number of steps.
    attack = apgd(loss, epsilon=epsilon, norm=norm, steps=steps)
    states = oracles.states(attack, oracles.smooth_pair()[0], x, y, start - x)
    expected, highest = oracles.apgd_run(
        module, norm, epsilon, steps, loss, x, y, start
    )
    last = {k: ops.convert_to_tensor(v) for k, v in states[-1].items()}
    found = ops.convert_to_numpy(attack.result(x, last, None))
    tolerance = 1e-5 if steps <= 22 else 1e-3
    np.testing.assert_allclose(found, expected, atol=tolerance)
    np.testing.assert_allclose(
        states[-1]["value_best"], highest, rtol=1e-4, atol=1e-5
    )
    fooled = oracles.wrong(module, expected, y)
    np.testing.assert_array_equal(states[-1]["fooled"], fooled)
    if steps > 1:
        assert 0 < fooled.sum() < len(x)


@pytest.mark.parametrize("loss, norm", CASES)
def test_highest_loss_after_100_steps_is_the_published_one(runs, loss, norm):
    x, y = oracles.smooth_batch()
    module = oracles.smooth_pair()[1]
    epsilon = oracles.EPSILON[norm]
    _, highest = oracles.apgd_run(
        module,
        norm,
        epsilon,
        100,
        loss,
        x,
        y,
        x + oracles.noise(x, norm, epsilon),
    )
    _, states, _ = runs[loss, norm]
    np.testing.assert_allclose(
        states[-1]["value_best"], highest, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("loss, norm", CASES)
def test_best_point_never_gets_worse(runs, loss, norm):
    _, states, _ = runs[loss, norm]
    best = np.stack([state["value_best"] for state in states])
    assert (np.diff(best, axis=0) >= 0.0).all()
    sizes = np.stack([state["step_size"] for state in states])
    assert (sizes[0] == np.float32(2 * oracles.EPSILON[norm])).all()
    changes = np.flatnonzero((np.diff(sizes, axis=0) != 0.0).any(axis=1)) + 1
    # It changes at checkpoints only, and is then halved.
    assert set(changes) <= {22, 41, 57, 70, 80, 87, 93, 99}
    assert len(changes) >= 5
    ratios = sizes[1:] / sizes[:-1]
    assert set(np.unique(ratios)) == {0.5, 1.0}
