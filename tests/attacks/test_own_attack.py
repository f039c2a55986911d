"""Attacks and losses of a user's own: no program serves two of them."""

import copy
import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_adaad
from keras_adaad import backend
from keras_adaad.attacks import APGD
from keras_adaad.attacks import CW
from keras_adaad.attacks import FAB
from keras_adaad.attacks import FGSM
from keras_adaad.attacks import FMN
from keras_adaad.attacks import PGD
from keras_adaad.attacks import Attack
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.attacks import Square
from keras_adaad.attacks import TargetedAPGD
from keras_adaad.frozen.digest import digest
from keras_adaad.losses import cross_entropy_from_logits
from tests import networks


class Jump(ObjectiveAttack):
    """One step of length epsilon, which `step` reads from the attack."""

    def settings(self, shape, seed, round_=0):
        return [{}]

    def step(self, objective, x, state, setting):
        _, _, gradient = backend.value_and_input_gradient(
            objective, state["x_adv"]
        )
        return {"x_adv": self._clip(x + self.epsilon * ops.sign(gradient))}


class OptedOut(Jump):
    """The same, which promises not to read it."""

    not_compiled = ("epsilon",)


class Scaled(PGD):
    """PGD with steps that are longer by a factor of its own."""

    def __init__(self, *, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def step(self, objective, x, state, setting):
        longer = ops.convert_to_tensor(self.step_size * self.factor, "float32")
        return super().step(
            objective, x, state, {**setting, "step_size": longer}
        )

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Forgetful(PGD):
    def __init__(self, *, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.twice = 2.0 * factor


class Doubled(PGD):
    def __init__(self, *, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = 2.0 * factor


@pytest.fixture(scope="module")
def model():
    """One network for all tests: no program of one may serve another."""
    keras.utils.set_random_seed(0)
    return networks.dense_net()


def reach(attack, model, batch):
    """Returns how far the attack moves the images."""
    return np.abs(attack(model, *batch) - batch[0]).max()


def test_a_step_may_read_what_the_attack_holds(model, batch):
    for epsilon in (0.01, 0.3):
        attack = Jump(epsilon=epsilon)
        np.testing.assert_allclose(
            attack(model, *batch), FGSM(epsilon=epsilon)(model, *batch)
        )
        report = keras_adaad.evaluate_robustness(
            model, *batch, [attack, "fgsm"], epsilon, verbose=0, curve=False
        )
        first, second = report.results
        np.testing.assert_array_equal(first.robust, second.robust)


@pytest.mark.parametrize(
    "name, values",
    [
        ("factor", (1.0, 2.0)),
        ("factor", (np.full((8, 8, 1), 1.0), np.full((8, 8, 1), 2.0))),
        ("step_size", (0.01, 0.02)),
    ],
)
def test_a_subclass_inherits_no_opt_out(model, batch, name, values):
    arguments = {"epsilon": 0.1, "step_size": 0.01, "steps": 2, "start": None}
    found = [
        reach(Scaled(**{**arguments, name: value}), model, batch)
        for value in values
    ]
    np.testing.assert_allclose(found, [0.02, 0.04], rtol=1e-4)


def test_reading_what_is_not_compiled_says_how_to(model, batch):
    x, y = batch
    attack = OptedOut(epsilon=0.1)
    message = r'OptedOut.epsilon.*settings.*setting\["epsilon"\]'
    with pytest.raises(RuntimeError, match=message):
        attack(model, x, y)
    with pytest.raises(RuntimeError, match=message):
        attack.maximize(
            lambda x: ops.sum(x, axis=(1, 2, 3)), ops.convert_to_tensor(x)
        )
    assert attack.epsilon == 0.1 and "epsilon=0.1" in repr(attack)


@pytest.mark.parametrize(
    "kind", [PGD, FGSM, CW, APGD, TargetedAPGD, FAB, FMN, Square]
)
def test_what_is_built_in_is_compiled_once_for_every_radius(kind):
    keys = {kind(epsilon=epsilon)._program_key() for epsilon in (0.1, 0.2)}
    assert len(keys) == 1
    if kind not in (FGSM, FMN):
        seeds = {kind(epsilon=0.1, seed=seed)._program_key() for seed in (0, 1)}
        assert seeds == keys
    other = kind(epsilon=0.1, norm="l2")._program_key()
    assert other not in keys
    # A subclass has to say it again.
    assert type("Mine", (kind,), {}).not_compiled == ()


def test_an_incomplete_config_is_refused_at_the_first_use(model, batch):
    attack = Forgetful(epsilon=0.1, factor=2.0)
    message = "Forgetful.get_config.*`self.factor`"
    with pytest.raises(ValueError, match=message):
        attack(model, *batch)
    with pytest.raises(ValueError, match=message):
        keras_adaad.evaluate_robustness(model, *batch, ["pgd", attack], 0.1)
    with pytest.raises(ValueError, match=message):
        attack.maximize(lambda x: x[:, 0, 0, 0], batch[0])


def test_a_config_with_other_values_is_refused_at_the_first_use(model, batch):
    with pytest.raises(ValueError, match="Doubled.get_config.*factor"):
        Doubled(epsilon=0.1, factor=3.0)(model, *batch)


def test_a_search_in_steps_has_its_base_class():
    with pytest.raises(TypeError, match="subclass of.*ObjectiveAttack"):
        type("Mine", (Attack,), {"step": Jump.step})


def test_what_has_been_used_cannot_be_changed(model, batch):
    attack = PGD(epsilon=0.1, steps=1, start=None)
    attack.steps = 2
    assert reach(attack, model, batch) == pytest.approx(0.05)
    for name, value in {"steps": 50, "epsilon": 0.3, "loss": "margin"}.items():
        with pytest.raises(AttributeError, match=f"from_config.*{name}"):
            setattr(attack, name, value)
    assert reach(attack, model, batch) == pytest.approx(0.05)
    longer = PGD.from_config({**attack.get_config(), "steps": 4})
    assert reach(longer, model, batch) == pytest.approx(0.1)
    assert copy.deepcopy(attack).get_config() == attack.get_config()


def test_an_attack_in_training_cannot_be_changed(batch):
    trainer = keras_adaad.PGDAT(networks.dense_net(), PGD(epsilon=0.1, steps=1))
    trainer.perturb(*batch)
    with pytest.raises(AttributeError, match="has been used"):
        trainer.attack.steps = 5


# Losses.


WEIGHT = 1.0


def weighted(labels, logits):
    return WEIGHT * cross_entropy_from_logits(labels, logits)


def closure(weight):
    return lambda labels, logits: (
        weight * cross_entropy_from_logits(labels, logits)
    )


def from_a_dict(settings):
    def loss(labels, logits):
        weight = settings["weight"]
        return weight * cross_entropy_from_logits(labels, logits)

    return loss


@keras.saving.register_keras_serializable(package="tests")
class Weighted:
    """A loss with a state."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, labels, logits):
        return self.weight * cross_entropy_from_logits(labels, logits)

    def get_config(self):
        return {"weight": self.weight}


PAIRS = {
    "lambdas": lambda: (
        lambda y, z: cross_entropy_from_logits(y, z),
        lambda y, z: -cross_entropy_from_logits(y, z),
    ),
    "closures": lambda: (closure(1.0), closure(-1.0)),
    "dictionaries": lambda: (
        from_a_dict({"weight": 1.0}),
        from_a_dict({"weight": -1.0}),
    ),
    "layers": lambda: tuple(
        closure(keras.layers.Rescaling(scale)(np.ones(1)))
        for scale in (1.0, -1.0)
    ),
    "objects": lambda: (Weighted(1.0), Weighted(-1.0)),
}


@pytest.mark.filterwarnings("ignore:The object being serialized includes")
@pytest.mark.parametrize("kind", PAIRS)
def test_two_losses_share_no_program(model, batch, kind):
    """The second is the negative of the first, and so are the steps."""
    x = np.full_like(batch[0], 0.5)
    moved = [
        FGSM(epsilon=0.1, loss=loss)(model, x, batch[1]) - x
        for loss in PAIRS[kind]()
    ]
    np.testing.assert_allclose(moved[0], -moved[1], atol=1e-6)
    assert np.abs(moved[0]).max() > 0.09


def test_a_loss_that_has_changed_is_compiled_anew(model, batch, monkeypatch):
    x = np.full_like(batch[0], 0.5)
    loss = Weighted(1.0)
    attacks = [FGSM(epsilon=0.1, loss=weighted), FGSM(epsilon=0.1, loss=loss)]
    before = [attack(model, x, batch[1]) - x for attack in attacks]
    monkeypatch.setattr(f"{__name__}.WEIGHT", -1.0)
    loss.weight = -1.0
    after = [attack(model, x, batch[1]) - x for attack in attacks]
    np.testing.assert_allclose(before, np.negative(after), atol=1e-6)


def test_a_class_that_has_changed_is_compiled_anew(model, batch, monkeypatch):
    class Half(Jump):
        share = 0.5

        def step(self, objective, x, state, setting):
            found = super().step(objective, x, state, setting)["x_adv"]
            return {"x_adv": x + self.share * (found - x)}

    attack = Half(epsilon=0.1)
    assert reach(attack, model, batch) == pytest.approx(0.05)
    monkeypatch.setattr(Half, "share", 0.25)
    assert reach(attack, model, batch) == pytest.approx(0.025)
    monkeypatch.setattr(Half, "step", Jump.step)
    assert reach(attack, model, batch) == pytest.approx(0.1)


# The digest.


class Held:
    def __init__(self, value):
        self.value = value


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


CYCLE = []
CYCLE.append(CYCLE)

DIFFERENT = [
    *(0, 0.0, False, None, "0", b"0", "", (), [], {}, set(), (0,), [0]),
    *((0, (1,)), ((0, 1),), {0: 1}, {1: 0}, {0, 1}, frozenset({0}), CYCLE),
    *(np.zeros(2), np.zeros(3), np.zeros((2, 1)), np.zeros(2, "float32")),
    *(np.arange(2000.0), np.arange(2000.0)[::-1], np.float32(1), np.int8(1)),
    *(Held(0), Held(1), Held([0]), Held(Held(0)), Held, fib, Weighted),
    *(closure(1), closure(2), lambda: 0, lambda: 1, lambda x=1: x),
    *(lambda x=2: x, lambda *, x=1: x, ops.abs, ops.sign, max, min, np, ops),
    *(functools.partial(fib, 1), functools.partial(fib, n=1), PGD, FGSM),
    *(keras.losses.Hinge(), keras.losses.Hinge(reduction="sum")),
]


def test_digests_differ_where_values_do():
    for in_process in (False, True):
        digests = [digest(value, in_process) for value in DIFFERENT]
        assert len(set(digests)) == len(digests)
        assert digests == [digest(value, in_process) for value in DIFFERENT]


def test_digests_of_layers_and_tensors():
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    found = [digest(dense), digest(Held(dense)), digest(lambda: dense)]
    dense.bias.assign([1.0, 0.0])
    found += [digest(dense), digest(Held(dense)), digest(lambda: dense)]
    assert len(set(found)) == len(found)
    tensor = ops.convert_to_tensor([1.0, 2.0])
    assert digest(tensor) == digest(np.array([1.0, 2.0], "float32"))


def test_what_a_digest_cannot_see_is_different_from_all():
    opaque = Held(iter([]))
    assert digest(opaque) != digest(opaque)
    assert digest(opaque, True) == digest(opaque, True)


def test_what_a_function_logs_to_is_not_what_it_computes():
    log, calls = [], {"n": 0}

    def logs(x):
        log.append(x)
        calls["n"] += 1
        return x

    before = digest(logs), digest(logs, in_process=True)
    logs(1)
    assert before == (digest(logs), digest(logs, in_process=True))


SETTINGS = {"weight": 1.0}


def with_settings(y, logits):
    return SETTINGS["weight"] * cross_entropy_from_logits(y, logits)


def test_settings_that_a_function_reads_are_what_it_computes(monkeypatch):
    before = digest(with_settings), digest(with_settings, in_process=True)
    monkeypatch.setitem(SETTINGS, "weight", 2.0)
    after = digest(with_settings), digest(with_settings, in_process=True)
    assert before[0] != after[0] and before[1] != after[1]


def digests_to_compare():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    values = [value for value in DIFFERENT if callable(value)]
    values += [networks.student_net(), networks.Subclassed(4)]
    return [digest(value) for value in values]


@pytest.mark.skipif(keras.config.backend() != "torch", reason="once is enough")
def test_digests_are_those_of_another_process():
    module = "tests.attacks.test_own_attack"
    script = (
        f"import tests.data.without_tensorflow\nfrom {module} import *\n"
        "print(digests_to_compare())"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert result.stdout.strip() == str(digests_to_compare())
