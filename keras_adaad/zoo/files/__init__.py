"""Reads checkpoint files as data, without PyTorch and without running code."""

from keras_adaad.zoo.files.reader import read as read
