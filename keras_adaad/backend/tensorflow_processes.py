"""The processes of `MultiWorkerMirroredStrategy`, on TensorFlow.

This module has the names of `torch_processes.py`. The strategy itself divides
the data and reduces gradients and metrics.
"""

import tensorflow as tf

from keras_adaad.backend.one_process import (
    averaged_gradient as averaged_gradient,
)
from keras_adaad.backend.one_process import broadcast as broadcast
from keras_adaad.backend.one_process import count as count
from keras_adaad.backend.one_process import start as start
from keras_adaad.backend.one_process import totals as totals


def index():
    """Returns 0 in the chief, which writes the files, and 1 in the others."""
    strategy = tf.distribute.get_strategy()
    return 0 if strategy.extended.should_checkpoint else 1
