"""Attacks: searches for the worst point in a ball around each image."""

from keras_adaad.attacks.attack import Attack as Attack
from keras_adaad.attacks.fgsm import FGSM as FGSM
from keras_adaad.attacks.pgd import PGD as PGD
