"""The published recipes, by the code whose settings they share.

The numbers are those of the reference code. If the code does not do what it
intends, a note says so.
"""

from keras_adaad.recipes.published import adaad
from keras_adaad.recipes.published import ard
from keras_adaad.recipes.published import others
from keras_adaad.recipes.published import rslad

ALL = [*adaad.ALL, *ard.ALL, *rslad.ALL, *others.ALL]
