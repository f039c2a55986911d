"""The processes of `keras.distribution.initialize`, on JAX.

The same names as in `torch_processes.py`. A step of theirs is one step to JAX:
gradients and metrics are those of the whole batch, with nothing to do.
"""

import jax

from keras_adaad.backend.one_process import (
    averaged_gradient as averaged_gradient,
)
from keras_adaad.backend.one_process import broadcast as broadcast
from keras_adaad.backend.one_process import count as count
from keras_adaad.backend.one_process import start as start
from keras_adaad.backend.one_process import totals as totals


def index():
    """Returns which of the processes this is; the one with index 0 writes."""
    return jax.process_index()
