"""The published methods, one file each."""

from keras_adaad.methods.adaad import AdaAD as AdaAD
from keras_adaad.methods.pgdat import PGDAT as PGDAT
