"""Optimizers of the published recipes, where Keras's are others."""

from keras_adaad.optimizers.coupled_sgd import CoupledSGD as CoupledSGD
