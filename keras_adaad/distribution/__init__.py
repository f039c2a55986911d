"""Training on several devices."""

from keras_adaad.distribution.layouts import (
    wide_teacher_layout as wide_teacher_layout,
)
from keras_adaad.distribution.torchrun import initialize as initialize
