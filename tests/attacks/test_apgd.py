"""Auto-PGD against the published code, step by step."""

import functools
import itertools

import numpy as np
import pytest
import torch
from keras import ops

from keras_adaad import backend
from keras_adaad.attacks import APGD
from keras_adaad.attacks import TargetedAPGD
from keras_adaad.attacks.apgd import checkpoints
from keras_adaad.attacks.randomness import HostRNG
from keras_adaad.frozen.classifier import Classifier
from tests.oracles import attacks as oracles

LOSSES = ("cross_entropy", "dlr", "pma", "targeted")
CASES = list(itertools.product(LOSSES, oracles.NORMS))
CHECKPOINTS = [22, 41, 57, 70, 80, 87, 93, 99]


def make(loss, norm, **arguments):
    arguments = {
        "epsilon": oracles.SMALL_EPSILON[norm],
        "norm": norm,
        **arguments,
    }
    if loss == "targeted":
        return TargetedAPGD(targets=1, **arguments)
    return APGD(loss=loss, **arguments)


def start_of(norm):
    x, _ = oracles.smooth_batch(32)
    return oracles.noise(x, norm, oracles.SMALL_EPSILON[norm])


def published(loss, norm, steps):
    x, y = oracles.smooth_batch(32)
    return oracles.apgd_run(
        oracles.smooth_pair()[1],
        norm,
        oracles.SMALL_EPSILON[norm],
        steps,
        loss,
        x,
        y,
        x + start_of(norm),
    )


def ours(loss, norm, steps):
    """Returns the point found, and the state after each step."""
    x, y = oracles.smooth_batch(32)
    attack = make(loss, norm, steps=steps)
    model = oracles.smooth_pair()[0]
    states = oracles.states(attack, model, x, y, start_of(norm))
    last = {k: ops.convert_to_tensor(v) for k, v in states[-1].items()}
    return ops.convert_to_numpy(attack.result(x, last, None)), states


# The schedule.


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


@pytest.mark.once
def test_checkpoints():
    assert [step for step, _ in checkpoints(100)] == CHECKPOINTS
    for steps in range(1, 301):
        assert checkpoints(steps) == reference_checkpoints(steps)


@pytest.mark.once
def test_settings_of_the_steps():
    settings = APGD(epsilon=0.1).settings(oracles.SHAPE, 0)
    assert len(settings) == 100
    assert [s["share"] for s in settings] == [1.0] + 99 * [0.75]
    assert [
        step for step, s in enumerate(settings, 1) if s["interval"]
    ] == CHECKPOINTS
    intervals = [s["interval"] for s in settings if s["interval"]]
    assert intervals == [22, 19, 16, 13, 10, 7, 6, 6]


# The search, against the published one from the same start.


@pytest.fixture(scope="module")
def runs():
    """100 steps of every case: our states, and what the reference tried."""
    module, found = oracles.smooth_pair()[1], {}
    for case in CASES:
        with oracles.recording(module) as tried:
            _, highest = published(*case, 100)
        # The targeted attack shows the clean images first.
        found[case] = ours(*case, 100)[1], tried[-101:], highest
    return found


@pytest.mark.parametrize("loss, norm", CASES)
def test_iterates_are_the_published_ones(runs, loss, norm):
    states, tried, _ = runs[loss, norm]
    x, _ = oracles.smooth_batch(32)
    np.testing.assert_allclose(
        states[0]["x_adv"], np.clip(x + start_of(norm), 0, 1), atol=1e-7
    )
    for step in (0, 1, 2):
        np.testing.assert_allclose(
            states[step]["x_adv"], tried[step], atol=1e-5
        )
    # Rounding decides where a slope is zero, and who is at a kink of DLR. At a
    # checkpoint itself, our state is the point that the search goes on from.
    for step in (5, 10, 21, 23, 24, 30, 42, 50, 69):
        share = oracles.share_close(states[step]["x_adv"], tried[step])
        assert share >= 0.9, f"{step=}"


@pytest.mark.parametrize("loss, norm", CASES)
def test_highest_loss_is_the_published_one(runs, loss, norm):
    states, _, highest = runs[loss, norm]
    apart = np.abs(states[-1]["value_best"] - highest) / np.abs(highest)
    assert (apart < 1e-3).mean() > 0.9
    assert apart.mean() < 1e-3


@pytest.mark.parametrize("steps", [5, 22])
@pytest.mark.parametrize("loss, norm", CASES)
def test_points_found_are_the_published_ones(loss, norm, steps):
    """The last point that fools the model, else the one of highest loss."""
    x, y = oracles.smooth_batch(32)
    module = oracles.smooth_pair()[1]
    found, states = ours(loss, norm, steps)
    expected, highest = published(loss, norm, steps)
    # With so few steps, checkpoints count the rises of a loss that stands.
    assert oracles.share_close(found, expected) >= {5: 0.9, 22: 0.7}[steps]
    apart = np.abs(states[-1]["value_best"] - highest)
    # Rounding decides where this search turns, for a few images.
    turns = (loss, norm, steps) == ("pma", "l2", 22)
    assert (apart < (1e-3 if turns else 1e-5)).mean() > 0.9
    fooled = oracles.wrong(module, expected, y)
    np.testing.assert_array_equal(oracles.wrong(module, found, y), fooled)
    np.testing.assert_array_equal(states[-1]["fooled"], fooled)
    assert 0 < fooled.sum() < len(x)


@pytest.mark.parametrize("loss, norm", CASES)
def test_step_sizes_halve_at_checkpoints_only(runs, loss, norm):
    states, _, _ = runs[loss, norm]
    sizes = np.stack([state["step_size"] for state in states])
    epsilon = np.float32(2 * oracles.SMALL_EPSILON[norm])
    np.testing.assert_allclose(sizes[0], epsilon, rtol=1e-6)
    changed = (np.diff(sizes, axis=0) != 0.0).any(axis=1)
    assert set(np.flatnonzero(changed) + 1) <= set(CHECKPOINTS)
    assert changed.sum() >= 4
    assert set(np.unique(sizes[1:] / sizes[:-1])) == {0.5, 1.0}
    best = np.stack([state["value_best"] for state in states])
    assert (np.diff(best, axis=0) >= 0.0).all()


def test_call_is_this_search():
    x, y = oracles.smooth_batch(32)
    attack = make("targeted", "linf", steps=22)
    x_adv = attack(oracles.smooth_pair()[0], x, y, noise=start_of("linf"))
    expected, _ = ours("targeted", "linf", 22)
    assert oracles.share_close(x_adv, expected) >= 0.95


class Script:
    """Logits and gradients of each forward pass that do not depend on `x`.

    So nothing grows from rounding, and 100 steps can be compared in full.
    """

    def __init__(self, num_images, passes):
        generator = np.random.default_rng(0)
        # Some losses rise nearly always, some stand still, some fall.
        drift = np.linspace(-0.3, 0.5, num_images)
        rises = generator.normal(drift, 0.4, (passes, num_images))
        rises[:, ::4] *= generator.random((passes, num_images))[:, ::4] < 0.5
        # Two rise all the time, and never get back to where they start.
        rises[:, 1:3] = 0.1
        rises[1, 1:3] = -50.0
        self.logit = rises.cumsum(0) - generator.uniform(0, 20, num_images)
        # A third never fools the model.
        self.logit[:, ::3] -= self.logit[:, ::3].max(0) + 0.1
        self.logit = self.logit.astype("float32")
        self.slope = generator.normal(size=(passes, num_images, 6, 6, 1))
        self.slope = self.slope.astype("float32")

    def in_torch(self):
        passes = iter(zip(self.logit, self.slope, strict=True))

        def logits(x):
            logit, slope = next(passes)
            here = (x - x.detach()) * oracles.to_torch(slope)
            logit = torch.tensor(logit) + here.sum((1, 2, 3))
            zero = 0.0 * logit
            return torch.stack([zero, logit, zero - 100.0], dim=-1)

        return logits

    @staticmethod
    def in_keras(logit, slope):
        """The same for one pass, so that a step can be compiled."""

        def logits(x):
            here = (x - ops.stop_gradient(x)) * slope
            here = logit + ops.sum(here, axis=(1, 2, 3))
            zero = 0.0 * here
            return ops.stack([zero, here, zero - 100.0], axis=-1)

        return logits


@pytest.mark.parametrize("norm", oracles.NORMS)
def test_whole_search_on_a_script(norm):
    """Every iterate of the published code, up to the last step."""
    generator = np.random.default_rng(1)
    x = generator.uniform(-0.2, 1.2, (32, 6, 6, 1)).clip(0, 1)
    x, y = x.astype("float32"), np.zeros(32, "int32")
    epsilon = {"linf": 0.1, "l2": 0.5}[norm]
    start = oracles.noise(x, norm, epsilon)
    script = Script(len(x), 101)

    tried, model = [], script.in_torch()

    def recorded(x):
        tried.append(oracles.to_keras(x))
        return model(x)

    expected, highest = oracles.apgd_run(
        recorded, norm, epsilon, 100, "dlr", x, y, x + start
    )

    attack = APGD(epsilon=epsilon, norm=norm, loss="dlr")

    def begin(x, y, start, setting, *one_pass):
        objective = attack._objective(script.in_keras(*one_pass), y)
        return attack.begin(objective, x, start, setting)

    def step(x, y, state, setting, *one_pass):
        objective = attack._objective(script.in_keras(*one_pass), y)
        return attack.step(objective, x, state, setting)

    begin, step = map(backend.compile_function, (begin, step))
    passes = list(zip(script.logit, script.slope, strict=True))
    settings = attack.settings(x.shape[1:], 0)
    states = [begin(x, y, start, settings[0], *passes[0])]
    for setting, one_pass in zip(settings, passes[1:], strict=True):
        states.append(step(x, y, states[-1], setting, *one_pass))
    found = ops.convert_to_numpy(attack.result(x, states[-1], None))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for number in set(range(101)) - set(CHECKPOINTS):
        found = ops.convert_to_numpy(states[number]["x_adv"])
        np.testing.assert_allclose(found, tried[number], atol=1e-5)
    found = ops.convert_to_numpy(states[-1]["value_best"])
    np.testing.assert_allclose(found, highest, rtol=1e-5, atol=1e-6)
    # All kinds of images are there.
    sizes = ops.convert_to_numpy(states[-1]["step_size"])
    halved = np.log2(2 * epsilon / sizes).round()
    assert halved.min() <= 2 and halved.max() == 8
    assert 0 < (script.logit > 0.0).any(0).mean() < 1


# Targets, restarts, starts.


def test_targets_are_the_runners_up_on_the_clean_image():
    model, module = oracles.smooth_pair()
    x, _ = oracles.smooth_batch()
    attack = TargetedAPGD(epsilon=0.1, targets=3, restarts=2)
    found = attack._target_classes(Classifier.of(model, 10), x, 16)
    ranking = np.argsort(-oracles.logits(module, x))
    expected = [ranking[:, rank] for rank in (1, 1, 2, 2, 3, 3)]
    np.testing.assert_array_equal(found, expected)
    assert attack._rounds(10) == 6
    assert TargetedAPGD(epsilon=0.1)._starts(10) == 9


def test_every_start_counts():
    """With several rounds, all are tried on who is left."""
    norm = "l2"
    x, y = oracles.smooth_batch(32)
    model, module = oracles.smooth_pair()
    epsilon = oracles.SMALL_EPSILON[norm]
    arguments = {"epsilon": epsilon, "norm": norm, "steps": 2}
    starts = np.stack([oracles.noise(x, norm, epsilon, s) for s in range(3)])
    x_adv = APGD(restarts=3, **arguments)(model, x, y, noise=starts)
    fooled = oracles.wrong(module, x_adv, y)
    singles = [APGD(**arguments)(model, x, y, noise=s) for s in starts]
    wrong = np.array([oracles.wrong(module, s, y) for s in singles])
    np.testing.assert_array_equal(fooled, wrong.any(0))
    # The point of the first start that does it.
    for row in np.flatnonzero(fooled):
        first = singles[wrong[:, row].argmax()][row]
        np.testing.assert_allclose(x_adv[row], first, atol=1e-5)
    # Else the highest loss of all.
    losses = [oracles.cross_entropy(module, s, y) for s in [x_adv, *singles]]
    highest = np.max(losses[1:], axis=0)
    np.testing.assert_allclose(losses[0][~fooled], highest[~fooled], rtol=1e-5)
    assert 0 < fooled.sum() < len(x)


@pytest.mark.parametrize("norm", oracles.NORMS)
def test_start_is_on_the_sphere(norm):
    x, _ = oracles.smooth_batch()
    draws = HostRNG([5, 0], range(len(x)))
    start = APGD(epsilon=0.1, norm=norm)._start(x, x, draws, 0)
    np.testing.assert_allclose(oracles.size(start, norm), 0.1, rtol=1e-5)
    # Every image has its own.
    assert len(np.unique(start.reshape(len(x), -1)[:, 0])) == len(x)


def test_no_gradient_no_harm():
    x, _ = oracles.smooth_batch()
    y = np.zeros(len(x), "int32")
    attack = APGD(epsilon=0.1, norm="l2", steps=5, seed=0)
    x_adv = attack(oracles.constant_model(), x, y)
    assert np.isfinite(x_adv).all()
    assert (oracles.size(x_adv - x, "l2") <= 0.1 * (1 + 1e-5)).all()


# Expectation over transformation.


def test_eot_averages_the_gradients():
    """Each pass has another slope; the verdict is that of the last pass."""
    x = ops.convert_to_tensor(oracles.smooth_batch()[0])
    slopes = iter([1.0, 2.0, 6.0, -1.0, 3.0, 10.0])

    def objective(x):
        slope = next(slopes)
        values = slope * ops.sum(x, axis=(1, 2, 3))
        return values, ops.ones_like(values) * slope > 5.0

    attack = APGD(epsilon=0.1, norm="l2", steps=1, eot_steps=3)
    noise = ops.zeros_like(x)
    setting = attack.settings(oracles.SHAPE, 0)[0]
    begin, step = (
        backend.compile_function(functools.partial(part, objective))
        for part in (attack.begin, attack.step)
    )
    state = begin(x, noise, setting)
    gradient = ops.convert_to_numpy(state["gradient"])
    np.testing.assert_allclose(gradient, 3.0, rtol=1e-6)
    assert ops.convert_to_numpy(state["fooled"]).all()
    state = step(x, state, setting)
    gradient = ops.convert_to_numpy(state["gradient"])
    np.testing.assert_allclose(gradient, 4.0, rtol=1e-6)
    assert next(slopes, None) is None


def test_eot_steadies_the_gradient_of_a_random_model():
    x, y = oracles.smooth_batch()
    start = oracles.noise(x, "l2", 0.2)

    def gradients(eot_steps):
        attack = APGD(epsilon=0.2, norm="l2", steps=1, eot_steps=eot_steps)
        model = oracles.random_model()
        return [
            oracles.states(attack, model, x, y, start, seed)[0]["gradient"]
            for seed in (0, *range(6))
        ]

    single, averaged = gradients(1), gradients(4)
    np.testing.assert_array_equal(averaged[0], averaged[1])
    # The spread of a mean of four is half.
    spread = [np.std(runs[1:], axis=0).mean() for runs in (single, averaged)]
    assert 0.35 * spread[0] < spread[1] < 0.65 * spread[0]


# Inside a training step.


@pytest.mark.parametrize("norm", oracles.NORMS)
def test_maximize_solves_a_linear_objective(norm):
    x, _ = oracles.smooth_batch()
    weights = np.random.default_rng(0).normal(size=x.shape).astype("float32")
    slope = ops.convert_to_tensor(weights)
    attack = APGD(epsilon=0.1, norm=norm, steps=20, restarts=2, seed=0)
    x_adv = ops.convert_to_numpy(
        attack.maximize(
            lambda x: ops.sum(x * slope, axis=(1, 2, 3)),
            ops.convert_to_tensor(x),
        )
    )
    gain = ((x_adv - x) * weights).sum((1, 2, 3))
    if norm == "linf":
        best = np.clip(x + 0.1 * np.sign(weights), 0, 1)
        np.testing.assert_allclose(x_adv, best, atol=1e-6)
    else:
        # Where the range does not bind, the gradient's own direction.
        free = 0.1 * np.linalg.norm(weights.reshape(len(x), -1), axis=1)
        assert (gain <= free * (1 + 1e-5)).all() and (gain > 0.6 * free).all()
        inner = np.full_like(x, 0.5)
        x_adv = attack.maximize(
            lambda x: ops.sum(x * slope, axis=(1, 2, 3)),
            ops.convert_to_tensor(inner),
        )
        gain = (ops.convert_to_numpy(x_adv) - inner) * weights
        np.testing.assert_allclose(gain.sum((1, 2, 3)), free, rtol=1e-4)


@pytest.mark.parametrize("norm", oracles.NORMS)
def test_maximize_in_a_scaled_ball(norm):
    """The start, too: where nothing rises, it is the result."""
    x = ops.convert_to_tensor(oracles.smooth_batch()[0])
    x_adv = APGD(epsilon=0.1, norm=norm, steps=3, seed=0).maximize(
        lambda x: ops.sum(0.0 * x, axis=(1, 2, 3)), x, scale=0.25
    )
    delta = ops.convert_to_numpy(x_adv - x).reshape(len(x), -1)
    order = np.inf if norm == "linf" else 2
    sizes = np.linalg.norm(delta, order, axis=1)
    assert 0.01 < sizes.max() <= 0.025 * (1 + 1e-5)
