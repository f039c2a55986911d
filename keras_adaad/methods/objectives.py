"""The inner objectives that several methods share.

Each returns the function of `x'` that the attack maximises, with one value per
sample. `teacher` and `student` are functions from images to logits, such as
those that `keras_adaad.logits_function` returns.
"""

from keras_adaad.losses import cross_entropy_from_logits
from keras_adaad.losses import kl_divergence_from_logits


def cross_entropy(student, y):
    """Returns `x' -> CE(S(x'), y)`."""
    return lambda x_adv: cross_entropy_from_logits(y, student(x_adv))


def divergence_from(target, student):
    """Returns `x' -> KL(target || S(x'))`, with constant target logits."""
    return lambda x_adv: kl_divergence_from_logits(target, student(x_adv))


def disagreement(teacher, student):
    """Returns `x' -> KL(T(x') || S(x'))`, whose target changes with `x'`."""
    return lambda x_adv: kl_divergence_from_logits(
        teacher(x_adv), student(x_adv)
    )
