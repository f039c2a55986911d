"""Robust teachers: published PyTorch checkpoints as Keras models."""

from keras_adaad.zoo.load import load_checkpoint as load_checkpoint
from keras_adaad.zoo.load import load_robustbench as load_robustbench
from keras_adaad.zoo.registry import entry as entry
from keras_adaad.zoo.registry import list_models as list_models
