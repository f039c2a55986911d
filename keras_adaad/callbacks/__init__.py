"""Callbacks for `fit`."""

from keras_adaad.callbacks.robust_evaluation import (
    RobustEvaluation as RobustEvaluation,
)
from keras_adaad.callbacks.student_checkpoint import (
    StudentCheckpoint as StudentCheckpoint,
)
from keras_adaad.callbacks.weight_averaging import (
    StochasticWeightAveraging as StochasticWeightAveraging,
)
