"""Checks and defaults of a method's attack arguments."""

import warnings

from keras_adaad import checks
from keras_adaad.attacks import PGD
from keras_adaad.attacks import Attack
from keras_adaad.attacks import ObjectiveAttack
from keras_adaad.attacks import get
from keras_adaad.attacks.norms import radius_of_another_range


def default_attack(input_range):
    """Returns the attack of AdaAD's reference code for the given range."""
    width = input_range[1] - input_range[0]
    return PGD(
        epsilon=8 / 255 * width,
        step_size=2 / 255 * width,
        steps=10,
        start="normal",
        start_scale=0.001 * width,
        clip_start=False,
        input_range=input_range,
    )


def check_not_given(kwargs):
    """Raises if a model was given an argument of its attack."""
    given = {"epsilon", "step_size", "steps", "norm"} & kwargs.keys()
    if given:
        name = min(given)
        raise TypeError(
            f"Argument `{name}` is one of the attack. Pass "
            f"`attack=keras_adaad.attacks.PGD({name}=...)`. "
            f"Received: {name}={kwargs[name]!r}"
        )


def training_attack(attack, input_range, published_attack):
    """Returns the attack of the training step, checked."""
    if attack is None:
        input_range = checks.check_input_range(
            (0.0, 1.0) if input_range is None else input_range
        )
        return published_attack(input_range)
    if not isinstance(attack, Attack):
        raise TypeError(
            "Argument `attack` must be a `keras_adaad.attacks.Attack`, "
            "e.g. `keras_adaad.attacks.PGD(epsilon=8 / 255)`, or `None` "
            "for the published one. "
            f"Received: attack={attack!r} (of type {type(attack).__name__})"
        )
    _check_raises_any_objective("attack", attack)
    suspect = radius_of_another_range(
        attack.epsilon, attack.norm, attack.input_range
    )
    if suspect:
        warnings.warn(f"Argument `attack`: {suspect}", stacklevel=4)
    if input_range is None:
        return attack
    input_range = checks.check_input_range(input_range)
    if input_range != attack.input_range:
        raise ValueError(
            "Arguments `input_range` and `attack.input_range` differ. "
            "Give the range to the attack alone. "
            f"Received: input_range={input_range}, "
            f"attack.input_range={attack.input_range}"
        )
    return attack


def check_start(name, attack):
    """Raises if an attack on a network's own outputs can't leave the image."""
    if getattr(attack, "start", 0) is None:
        raise ValueError(
            f"{name} needs a random start: at the image itself the gradient of "
            "its objective is zero, and x* would be the image. Use "
            '`PGD(start="normal", start_scale=0.001)`, as the published code '
            f'does, or `start="uniform"`. Received: attack={attack!r}'
        )


def evaluation_attack(attack, of_training, input_range):
    """Returns the attack that the default follows, and the attack to run.

    The first is `None` unless the attack is the default. So is one that equals
    it, as a loaded model has.
    """
    usual = get(
        "pgd-10",
        epsilon=of_training.epsilon,
        norm=of_training.norm,
        input_range=input_range,
        seed=0,
    )
    if attack == "pgd-10":
        return of_training, usual
    if attack is None:
        return None, None
    if not isinstance(attack, Attack):
        raise TypeError(
            'Argument `evaluation_attack` must be "pgd-10", a '
            "`keras_adaad.attacks.Attack`, or `None` for no robust "
            f"evaluation. Received: evaluation_attack={attack!r}"
        )
    _check_raises_any_objective("evaluation_attack", attack)
    if type(attack) is PGD and attack.get_config() == usual.get_config():
        return of_training, attack
    return None, attack


def _check_raises_any_objective(name, attack):
    if not isinstance(attack, ObjectiveAttack):
        raise ValueError(
            f"Argument `{name}` must be an attack that raises any objective "
            "inside a compiled step, such as `PGD` or `APGD`. To evaluate "
            f"with {type(attack).__name__}, use "
            "`keras_adaad.callbacks.RobustEvaluation`. "
            f"Received: {name}={attack!r}"
        )
