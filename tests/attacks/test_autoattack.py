"""The ensemble against the published one; what holds for every attack."""

import keras
import numpy as np
import pyautoattack
import pytest
import torch
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops

from keras_adaad.attacks import APGD
from keras_adaad.attacks import CW
from keras_adaad.attacks import FAB
from keras_adaad.attacks import Attack
from keras_adaad.attacks import AutoAttack
from keras_adaad.attacks import Square
from keras_adaad.attacks import TargetedAPGD
from keras_adaad.attacks import autoattack
from keras_adaad.attacks.search import Outcome
from keras_adaad.frozen.classifier import Classifier
from tests import networks
from tests.oracles import attacks as oracles

NORMS = oracles.NORMS
VERSIONS = ("standard", "plus", "rand")
# Small budgets of every attack, of the ensemble and beside it.
SMALL = {
    "apgd-ce": (APGD, {"steps": 10}),
    "apgd-t": (TargetedAPGD, {"steps": 10, "targets": 1}),
    "fab": (FAB, {"steps": 10, "targets": None}),
    "fab-t": (FAB, {"steps": 10, "targets": 1}),
    "square": (Square, {"queries": 100}),
    "cw": (CW, {"steps": 10}),
}


def small(name, norm, **arguments):
    attack, budget = SMALL[name]
    arguments = {"epsilon": oracles.EPSILON[norm], "seed": 0, **arguments}
    return attack(norm=norm, **budget, **arguments)


def assert_inside(x_adv, x, attack, slack=0.0):
    """Asserts what every attack promises; the sizes are taken in float64."""
    low, high = attack.input_range
    assert x_adv.shape == x.shape and x_adv.dtype == np.float32
    assert np.isfinite(x_adv).all()
    assert x_adv.min() >= low and x_adv.max() <= high
    size = oracles.size(np.asarray(x_adv, "float64") - x, attack.norm)
    if attack.norm == "linf":
        limit = attack.epsilon + 1e-6 * (high - low)
    else:
        limit = attack.epsilon * (1 + 1e-5)
    assert (size <= limit + slack).all()


every_attack = pytest.mark.parametrize("name", SMALL)
every_norm = pytest.mark.parametrize("norm", NORMS)
# Each attack in one norm, where both would say the same.
ALTERNATING = [(name, NORMS[i % 2]) for i, name in enumerate(SMALL)]
alternating = pytest.mark.parametrize("name, norm", ALTERNATING)


# The published budgets.


@pytest.mark.once
@pytest.mark.parametrize("version", VERSIONS)
@every_norm
def test_budgets_are_the_published_ones(version, norm):
    published = pyautoattack.AutoAttack(
        torch.nn.Identity(), norm=oracles.REFERENCE_NORM[norm], version=version
    )
    ours = AutoAttack(epsilon=0.1, norm=norm, version=version).attacks()
    assert list(ours) == published.attacks_to_run
    for name, attack in ours.items():
        assert attack.epsilon == 0.1 and attack.norm == norm
        if name.startswith("apgd"):
            targeted = name == "apgd-t"
            theirs = published.apgd_targeted if targeted else published.apgd
            assert type(attack) is (TargetedAPGD if targeted else APGD)
            assert attack.steps == theirs.n_iter
            assert attack.restarts == theirs.n_restarts
            assert attack.eot_steps == theirs.eot_iter
            assert attack.rho == theirs.thr_decr
            assert not theirs.use_largereps
            if targeted:
                assert attack.targets == theirs.n_target_classes
            else:
                losses = {"apgd-ce": "cross_entropy", "apgd-dlr": "dlr"}
                assert attack.loss == losses[name]
        elif name.startswith("fab"):
            theirs = published.fab
            assert type(attack) is FAB
            assert attack.steps == theirs.n_iter
            assert attack.alpha_max == theirs.alpha_max
            assert attack.eta == theirs.eta
            assert attack.beta == theirs.beta
            if name == "fab-t":
                assert attack.targets == theirs.n_target_classes
                # `run_standard_evaluation` sets `n_restarts` to 1 for it.
                assert attack.restarts == 1
            else:
                assert attack.targets is None
                assert attack.restarts == theirs.n_restarts
        else:
            theirs = published.square
            assert type(attack) is Square
            assert attack.queries == theirs.n_queries
            assert attack.restarts == theirs.n_restarts
            assert attack.p_init == theirs.p_init
            assert theirs.loss == "margin" and not theirs.rescale_schedule


@pytest.mark.once
def test_budgets_in_numbers():
    """As printed in the paper and the README of the published code."""
    standard = AutoAttack(epsilon=0.1).attacks()
    assert list(standard) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert [a.steps for a in standard.values() if hasattr(a, "steps")] == [
        100,
        100,
        100,
    ]
    assert standard["apgd-t"].targets == standard["fab-t"].targets == 9
    assert standard["square"].queries == 5000
    plus = AutoAttack(epsilon=0.1, version="plus").attacks()
    assert [a.restarts for a in plus.values()] == [5, 5, 5, 1, 1, 1]
    rand = AutoAttack(epsilon=0.1, version="rand").attacks()
    assert [a.eot_steps for a in rand.values()] == [20, 20]


@pytest.mark.once
def test_arguments_reach_every_attack():
    attack = AutoAttack(
        epsilon=0.2, norm="l2", version="plus", input_range=(-1, 1), seed=7
    )
    for member in attack.attacks().values():
        config = member.get_config()
        assert config["epsilon"] == 0.2 and config["norm"] == "l2"
        assert config["input_range"] == [-1.0, 1.0] and config["seed"] == 7


# The driver.


class Spy(Attack):
    """Fools the images whose label is in `fools`; notes what it was given."""

    def __init__(self, fools, complete=True):
        super().__init__(epsilon=0.1)
        self.fools = fools
        self.complete = complete
        self.given = None

    def _run(self, classifier, x, y, **options):
        self.given = {"x": x.copy(), "y": y.copy(), **options}
        fooled = np.isin(y, self.fools)
        x_adv = np.where(fooled[:, None, None, None], 0.5, 0.25)
        x_adv = np.broadcast_to(x_adv, x.shape).astype("float32")
        return Outcome(x_adv, fooled, self.complete)


def drive(monkeypatch, *spies):
    members = {str(i): spy for i, spy in enumerate(spies)}
    monkeypatch.setattr(AutoAttack, "attacks", lambda self: members)
    x, _ = oracles.smooth_batch()
    y = np.arange(len(x), dtype="int32") % 10
    model = oracles.smooth_pair()[0]
    before = x.copy()
    outcome = AutoAttack(epsilon=0.1, seed=0)._run(
        Classifier.of(model, 10), x, y, seed=0, batch_size=16
    )
    np.testing.assert_array_equal(x, before)
    return x, y, outcome


def test_each_attack_sees_what_is_left_from_the_clean_image(monkeypatch):
    spies = Spy([0, 1, 2]), Spy([2, 5, 9]), Spy([]), Spy([3])
    x, y, outcome = drive(monkeypatch, *spies)
    left = np.ones(len(x), bool)
    for spy in spies:
        np.testing.assert_array_equal(spy.given["x"], x[left])
        np.testing.assert_array_equal(spy.given["y"], y[left])
        # Their places decide their draws, whoever is left.
        np.testing.assert_array_equal(spy.given["rows"], np.flatnonzero(left))
        assert spy.given["batch_size"] == 16
        left &= ~np.isin(y, spy.fools)
    np.testing.assert_array_equal(outcome.fooled, ~left)
    assert (outcome.x_adv[~left] == 0.5).all() and outcome.complete
    assert sorted(set(y[left])) == [4, 6, 7, 8]


def test_it_stops_once_all_are_fooled(monkeypatch):
    spies = Spy(range(10)), Spy([])
    _, _, outcome = drive(monkeypatch, *spies)
    assert outcome.fooled.all() and spies[1].given is None


def test_it_ends_where_it_is_stopped(monkeypatch):
    spies = Spy([1]), Spy([2], complete=False), Spy([3])
    _, y, outcome = drive(monkeypatch, *spies)
    assert not outcome.complete and spies[2].given is None
    np.testing.assert_array_equal(outcome.fooled, np.isin(y, [1, 2]))


def test_a_stop_is_noticed_at_every_step():
    x, y = oracles.smooth_batch()
    classifier = Classifier.of(oracles.smooth_pair()[0], 10)
    attack, calls = small("apgd-ce", "linf"), []

    def stop(images):
        calls.append(images)
        return len(calls) == 4

    outcome = attack._run(classifier, x, y, seed=0, batch_size=16, stop=stop)
    assert calls == 4 * [16] and not outcome.complete
    np.testing.assert_array_equal(outcome.x_adv, x)


# Verdicts, against those of the published attacks.

EPSILON = {"linf": 0.12, "l2": 0.6}
BUDGETS = {
    "apgd-ce": (APGD, {"steps": 15}),
    "apgd-t": (TargetedAPGD, {"steps": 10, "targets": 2}),
    "fab-t": (FAB, {"steps": 10, "targets": 2}),
    "square": (Square, {"queries": 200}),
    "apgd-dlr": (APGD, {"steps": 15, "loss": "dlr"}),
    "fab": (FAB, {"steps": 10, "targets": None}),
}


def budgeted(name, norm):
    attack, budget = BUDGETS[name]
    return attack(epsilon=EPSILON[norm], norm=norm, seed=0, **budget)


def published(name, norm, seed=0):
    module = oracles.trained_pair()[1]
    arguments = module, norm, EPSILON[norm]
    if name in ("apgd-ce", "apgd-dlr"):
        loss = {"apgd-ce": "cross_entropy", "apgd-dlr": "dlr"}[name]
        return oracles.apgd(*arguments, 15, loss, seed=seed)
    if name == "apgd-t":
        return oracles.apgd(
            *arguments, 10, "targeted", seed=seed, n_target_classes=2
        )
    if name == "square":
        return oracles.square(*arguments, 200, seed=seed)
    return oracles.fab(
        *arguments, 10, seed=seed, targeted=name == "fab-t", n_target_classes=2
    )


@pytest.fixture(scope="module")
def digits_batch():
    return oracles.trained_batch()


@pytest.mark.parametrize(
    "name, norm",
    [
        *((name, "linf") for name in BUDGETS),
        *((name, "l2") for name in ("fab-t", "square")),
    ],
)
def test_verdicts_are_the_published_ones(digits_batch, name, norm):
    x, y = digits_batch
    model, module = oracles.trained_pair()
    before = networks.snapshot(model)
    attack = budgeted(name, norm)
    x_adv = attack(model, x, y, batch_size=96)
    networks.assert_same(before, networks.snapshot(model))
    assert_inside(x_adv, x, attack)
    ours = oracles.wrong(module, x_adv, y)
    theirs = published(name, norm).perturb(
        oracles.to_torch(x), oracles.labels(y)
    )
    theirs = oracles.wrong(module, oracles.to_keras(theirs), y)
    assert 0.1 < theirs.mean() < 0.7
    # Two seeds of the published Square agree on 92 to 99 % of these images; the
    # other attacks hardly depend on theirs.
    is_random = name == "square"
    assert (ours == theirs).mean() >= (0.9 if is_random else 0.95)
    # Being weaker is the dangerous direction.
    assert ours.mean() >= theirs.mean() - (0.06 if is_random else 0.04)


def test_the_ensemble_agrees_image_by_image(monkeypatch):
    norm = "linf"
    monkeypatch.setitem(
        autoattack.VERSIONS,
        "standard",
        {n: BUDGETS[n] for n in ("apgd-ce", "apgd-t", "fab-t", "square")},
    )
    x, y = (array[1300:1396] for array in oracles.digits())
    x, y = oracles.to_keras(x), y.numpy().astype("int32")
    model, module = oracles.trained_pair()
    clean = ~oracles.wrong(module, x, y)
    assert 0.8 < clean.mean() < 1.0

    attack = AutoAttack(epsilon=EPSILON[norm], norm=norm, seed=0)
    x_adv = attack(model, x, y, batch_size=96)
    assert_inside(x_adv, x, attack)
    robust = ~oracles.wrong(module, x_adv, y)

    theirs = pyautoattack.AutoAttack(
        module,
        norm=oracles.REFERENCE_NORM[norm],
        eps=EPSILON[norm],
        seed=0,
        version="standard",
    )
    theirs.apgd = published("apgd-ce", norm)
    theirs.apgd_targeted = published("apgd-t", norm)
    theirs.fab = published("fab-t", norm)
    theirs.square = published("square", norm)
    theirs, _ = theirs.run_standard_evaluation(
        oracles.to_torch(x), oracles.labels(y)
    )
    expected = ~oracles.wrong(module, oracles.to_keras(theirs), y)
    assert 0.3 < expected.mean() < 0.7
    assert (robust == expected).mean() >= 0.95
    # Who is wrong from the start is not robust.
    assert not robust[~clean].any()


# Few classes.


@pytest.mark.once
def test_as_few_classes_as_there_can_be():
    standard, rand = (
        AutoAttack(epsilon=0.1),
        AutoAttack(epsilon=0.1, version="rand"),
    )
    for num_classes in (2, 3):
        with pytest.raises(ValueError, match=f"4 classes.*{num_classes} cla"):
            standard._check_classes(num_classes)
    standard._check_classes(4)
    with pytest.raises(ValueError, match="DLR.*3 classes.*2 classes"):
        rand._check_classes(2)
    rand._check_classes(3)
    with pytest.raises(ValueError, match="DLR"):
        AutoAttack(epsilon=0.1, version="plus")._check_classes(2)
    for attack in (APGD(epsilon=0.1), FAB(epsilon=0.1), Square(epsilon=0.1)):
        attack._check_classes(2)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_impossible_losses_are_refused_by_the_call(num_classes):
    model = oracles.smooth_pair(num_classes)[0]
    x, y = oracles.smooth_batch(4, num_classes)
    for attack in [
        AutoAttack(epsilon=0.1),
        TargetedAPGD(epsilon=0.1),
        *([APGD(epsilon=0.1, loss="dlr")] if num_classes == 2 else []),
    ]:
        with pytest.raises(ValueError, match="classes"):
            attack(model, x, y)


def test_fewer_classes_have_fewer_targets():
    for num_classes, rounds in [(2, 1), (5, 4), (10, 9), (100, 9)]:
        assert FAB(epsilon=0.1)._starts(num_classes) == rounds
        assert TargetedAPGD(epsilon=0.1)._starts(num_classes) == rounds
    assert FAB(epsilon=0.1, targets=2, restarts=3)._starts(10) == 6
    model, module = oracles.smooth_pair(2)
    x, y = oracles.smooth_batch(16, 2)
    attack = FAB(epsilon=0.5, steps=5)
    _, moved = oracles.steps_taken(attack, model, x, y)
    assert moved == 5 * [16]
    assert oracles.wrong(module, attack(model, x, y), y).mean() > 0.5


# What holds for every attack.


@every_attack
@every_norm
def test_invariants(name, norm):
    x, y = oracles.smooth_batch()
    model, module = oracles.smooth_pair()
    attack = small(name, norm)
    before = networks.snapshot(model)
    x_adv = attack(model, x, y)
    networks.assert_same(before, networks.snapshot(model))
    assert_inside(x_adv, x, attack)
    fooled = oracles.wrong(module, x_adv, y)
    assert 0 < fooled.sum() < len(x)

    # The verdict of the search is that of the model on what it returns.
    classifier = Classifier.of(model, 10)
    outcome = attack._run(classifier, x, y, seed=0, batch_size=16)
    np.testing.assert_array_equal(outcome.x_adv, x_adv)
    np.testing.assert_array_equal(outcome.fooled, fooled)
    assert outcome.complete


# (That of Square is in its own file.)
@pytest.mark.parametrize(
    "name, norm", [("apgd-ce", "linf"), ("fab-t", "l2"), ("cw", "linf")]
)
def test_batch_size_does_not_change_the_result(name, norm):
    x, y = oracles.smooth_batch()
    model, module = oracles.smooth_pair()
    attack = small(name, norm)
    whole = attack(model, x, y)
    # The last batch is padded.
    parts = attack(model, x[:15], y[:15], batch_size=8)
    assert oracles.share_close(parts, whole[:15]) > 0.8
    np.testing.assert_array_equal(
        oracles.wrong(module, parts, y[:15]),
        oracles.wrong(module, whole[:15], y[:15]),
    )


@alternating
def test_seed_decides(name, norm):
    x, y = oracles.smooth_batch()
    model = oracles.smooth_pair()[0]
    runs = [small(name, norm, seed=seed)(model, x, y) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    if not name.startswith("fab"):
        # (The first start of FAB is the clean image.)
        assert (runs[0] != runs[2]).any()


def test_without_a_seed_that_of_keras_decides():
    x, y = oracles.smooth_batch()
    model, runs = oracles.smooth_pair()[0], []
    for seed in (5, 5, 6):
        keras.utils.set_random_seed(seed)
        runs.append(small("cw", "linf", seed=None)(model, x, y))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


@alternating
def test_epsilon_zero_is_the_clean_image(name, norm):
    x, y = oracles.smooth_batch()
    x_adv = small(name, norm, epsilon=0.0)(oracles.smooth_pair()[0], x, y)
    np.testing.assert_allclose(x_adv, x, atol=1e-7)


@alternating
@settings(max_examples=4, deadline=None)
@given(epsilon=st.floats(1e-4, 2.0), seed=st.integers(0, 2**31))
def test_ball_and_range_hold_for_any_epsilon(name, norm, epsilon, seed):
    generator = np.random.default_rng(seed)
    x = generator.uniform(-0.5, 1.5, (16, *oracles.SHAPE))
    x = np.clip(x, 0.0, 1.0).astype("float32")
    y = generator.integers(10, size=16)
    attack = small(name, norm, epsilon=epsilon, seed=seed)
    x_adv = attack(oracles.smooth_pair()[0], x, y)
    # Rounding moves a pixel by 1e-7, whatever epsilon.
    assert_inside(x_adv, x, attack, slack=1e-6)


@pytest.mark.parametrize(
    "name, norm",
    [("apgd-ce", "l2"), ("fab-t", "linf"), ("square", "l2"), ("cw", "linf")],
)
def test_units_do_not_matter(name, norm):
    """Images in [-1, 1], with twice the radius, give the same attack."""
    x, y = oracles.smooth_batch()
    model, module = oracles.smooth_pair()
    expected = small(name, norm)(model, x, y)
    attack = small(
        name,
        norm,
        epsilon=2 * oracles.EPSILON[norm],
        input_range=(-1.0, 1.0),
    )
    rescaling = oracles.smooth_pair(low=-1.0, high=1.0)[0]
    x_adv = attack(rescaling, 2 * x - 1, y)
    assert_inside(x_adv, 2 * x - 1, attack)
    assert oracles.share_close((x_adv + 1) / 2, expected, 1e-4) >= 0.8
    np.testing.assert_array_equal(
        oracles.wrong(module, (x_adv + 1) / 2, y),
        oracles.wrong(module, expected, y),
    )


def test_labels_of_either_form():
    x, y = oracles.smooth_batch()
    model, attack = oracles.smooth_pair()[0], small("fab-t", "linf")
    expected = attack(model, x, y)
    one_hot = np.eye(10, dtype="float32")[y]
    np.testing.assert_array_equal(attack(model, x, one_hot), expected)
    column = y[:, None].astype("float64")
    np.testing.assert_array_equal(attack(model, x, column), expected)


SERIALIZED = [
    *(small(name, norm) for name in SMALL for norm in NORMS),
    APGD(epsilon=0.1, rho=0.6, eot_steps=3, restarts=2, loss="margin"),
    TargetedAPGD(epsilon=0.1, rho=0.6, eot_steps=3, restarts=2, targets=4),
    FAB(epsilon=0.1, alpha_max=0.2, eta=1.1, beta=0.8, restarts=2),
    Square(epsilon=0.1, p_init=0.5, queries=7, restarts=2),
    CW(epsilon=0.1, step_size=0.02, restarts=2, input_range=(-1, 1)),
    *(AutoAttack(epsilon=0.1, version=v, norm="l2", seed=3) for v in VERSIONS),
]


@pytest.mark.parametrize("attack", SERIALIZED, ids=repr)
def test_serialization(attack):
    config = keras.saving.serialize_keras_object(attack)
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is type(attack)
    assert restored.get_config() == attack.get_config()
    assert repr(restored) == repr(attack)
    # Every argument of the constructor is kept, none is left out.
    assert type(attack)(**attack.get_config()).get_config() == (
        attack.get_config()
    )


# Models that are random in themselves.


def test_a_random_model_draws_anew_in_every_forward_pass():
    model = oracles.random_model()
    x, _ = oracles.smooth_batch()
    before = networks.snapshot(model)
    passes = []
    for seed in (0, 0, 1):
        classifier = Classifier.of(model, 10, seed)
        passes.append([classifier.predict(x, 16) for _ in range(2)])
    for first, second in passes:
        assert (np.abs(first - second).max(1) > 1e-3).mean() > 0.9
    # The seed decides them all, and the state of the model stays.
    np.testing.assert_array_equal(passes[0], passes[1])
    assert np.abs(passes[0][0] - passes[2][0]).max() > 1e-3
    networks.assert_same(before, networks.snapshot(model))
    # Within one program, and whenever it is called, too.
    both = Classifier.of(model, 10).program(
        "twice", lambda logits, x: (logits(x), logits(x))
    )
    passes = [ops.convert_to_numpy(a) for _ in range(2) for a in both(x)]
    for i in range(4):
        for other in passes[:i]:
            assert np.abs(passes[i] - other).max() > 1e-3


@pytest.mark.parametrize("name", ["apgd-ce", "square"])
def test_attacks_on_a_random_model_repeat(name):
    model = oracles.random_model()
    x, y = oracles.smooth_batch()
    before = networks.snapshot(model)
    runs = [small(name, "linf", seed=s)(model, x, y) for s in (0, 0, 1)]
    networks.assert_same(before, networks.snapshot(model))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-3
    assert_inside(runs[0], x, small(name, "linf"))


def test_rand_version_on_a_random_model(monkeypatch):
    budget = {"steps": 5, "eot_steps": 2}
    monkeypatch.setitem(
        autoattack.VERSIONS,
        "rand",
        {
            "apgd-ce": (APGD, budget),
            "apgd-dlr": (APGD, {"loss": "dlr", **budget}),
        },
    )
    model = oracles.random_model()
    x, y = oracles.smooth_batch()
    attack = AutoAttack(epsilon=0.1, version="rand", seed=0)
    x_adv = attack(model, x, y)
    assert_inside(x_adv, x, attack)
    np.testing.assert_array_equal(attack(model, x, y), x_adv)
    assert oracles.wrong(oracles.smooth_pair()[1], x_adv, y).mean() > 0.5


# What AutoAttack refuses.


def test_what_it_refuses():
    x, _ = oracles.smooth_batch()
    model = oracles.smooth_pair()[0]
    with pytest.raises(ValueError, match="version"):
        AutoAttack(epsilon=0.1, version="custom")
    with pytest.raises(ValueError, match="missing"):
        AutoAttack(epsilon=0.1)(model, x, None)
