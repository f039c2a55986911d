"""Which attacks can raise any objective inside a compiled step."""

import pytest

from keras_adaad import attacks

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", ["FGSM", "PGD", "CW", "APGD"])
def test_those_that_can(name):
    assert issubclass(getattr(attacks, name), attacks.ObjectiveAttack)


@pytest.mark.parametrize("name", ["TargetedAPGD", "FAB", "FMN", "Square"])
def test_those_that_need_a_classifier(name):
    assert issubclass(getattr(attacks, name), attacks.IterativeAttack)
    assert not hasattr(getattr(attacks, name), "maximize")


def test_autoattack_is_no_search():
    assert not issubclass(attacks.AutoAttack, attacks.IterativeAttack)
