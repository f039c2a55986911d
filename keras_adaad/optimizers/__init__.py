"""Optimizers of the published recipes that differ from Keras's."""

from keras_adaad.optimizers.coupled_sgd import CoupledSGD as CoupledSGD
from keras_adaad.optimizers.per_network import PerNetwork as PerNetwork
