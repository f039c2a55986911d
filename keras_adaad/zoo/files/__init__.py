"""Checkpoint files read as data: no format needs PyTorch, none runs code."""

from keras_adaad.zoo.files.reader import read as read
