"""Attacks: searches for the worst point in a ball around each image."""

from keras_adaad.attacks.apgd import APGD as APGD
from keras_adaad.attacks.apgd import TargetedAPGD as TargetedAPGD
from keras_adaad.attacks.attack import Attack as Attack
from keras_adaad.attacks.autoattack import AutoAttack as AutoAttack
from keras_adaad.attacks.cw import CW as CW
from keras_adaad.attacks.fab import FAB as FAB
from keras_adaad.attacks.fgsm import FGSM as FGSM
from keras_adaad.attacks.fmn import FMN as FMN
from keras_adaad.attacks.iterative import IterativeAttack as IterativeAttack
from keras_adaad.attacks.objective import ObjectiveAttack as ObjectiveAttack
from keras_adaad.attacks.pgd import PGD as PGD
from keras_adaad.attacks.presets import get as get
from keras_adaad.attacks.square import Square as Square
