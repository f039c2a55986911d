"""The processes of `MultiWorkerMirroredStrategy`, on TensorFlow.

The same names as in `torch_processes.py`. The strategy shares out the data and
reduces gradients and metrics, with nothing to do.
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
    """Returns 0 in the process that writes, the chief, and 1 in any other."""
    strategy = tf.distribute.get_strategy()
    return 0 if strategy.extended.should_checkpoint else 1
