"""Callbacks for `fit`."""

from keras_adaad.callbacks.student_checkpoint import (
    StudentCheckpoint as StudentCheckpoint,
)
