"""Arguments with which an attack would silently do nothing are refused."""

import inspect
import math

import pytest

from keras_adaad.attacks import APGD
from keras_adaad.attacks import CW
from keras_adaad.attacks import FAB
from keras_adaad.attacks import FGSM
from keras_adaad.attacks import FMN
from keras_adaad.attacks import PGD
from keras_adaad.attacks import AutoAttack
from keras_adaad.attacks import Square
from keras_adaad.attacks import TargetedAPGD

pytestmark = pytest.mark.once

KINDS = [FGSM, PGD, CW, APGD, TargetedAPGD, FAB, FMN, Square, AutoAttack]
NUMBERS = {
    *("epsilon", "step_size", "start_scale", "rho", "p_init"),
    *("alpha_max", "eta", "beta", "gamma"),
}
INTEGERS = {"steps", "restarts", "eot_steps", "targets", "queries"}
OTHERS = {
    *("norm", "loss", "input_range", "seed", "start", "clip_start"),
    "version",
}


def arguments():
    for kind in KINDS:
        names = set(inspect.signature(kind).parameters)
        assert names <= NUMBERS | INTEGERS | OTHERS
        yield from ((kind, name) for name in sorted(names - OTHERS))


@pytest.mark.parametrize("kind, name", list(arguments()))
def test_numbers_are_finite_and_counts_positive(kind, name):
    values = [-1, "0.1", [0.1], True, math.nan, math.inf, -math.inf]
    if name in INTEGERS:
        values += [0, 1.5]
    for value in values:
        with pytest.raises((TypeError, ValueError), match=f"`{name}`"):
            kind(**{"epsilon": 0.1, name: value})


@pytest.mark.parametrize("kind", [PGD, CW])
def test_steps_of_no_length(kind):
    with pytest.raises(ValueError, match="step_size.* 0.*epsilon / 4"):
        kind(epsilon=0.1, step_size=0.0)
    assert kind(epsilon=0.0).step_size == 0.0
    assert kind(epsilon=0.0, step_size=0.0).step_size == 0.0


def test_fmn_moves_at_all():
    with pytest.raises(ValueError, match="step_size"):
        FMN(epsilon=0.1, step_size=0.0)
    for gamma in (0.0, 1.1):
        with pytest.raises(ValueError, match="gamma"):
            FMN(epsilon=0.1, gamma=gamma)


def test_fab_reaches_the_boundary():
    for eta in (0.0, 0.99):
        with pytest.raises(ValueError, match="eta"):
            FAB(epsilon=0.1, eta=eta)
    with pytest.raises(ValueError, match="p_init"):
        Square(epsilon=0.1, p_init=0.0)
