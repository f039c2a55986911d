"""The processes of `keras.distribution.initialize`, on JAX.

This module has the names of `torch_processes.py`. JAX runs one step over all
processes, so gradients and metrics already cover the whole batch.
"""

import jax

from keras_adaad.backend.one_process import (
    averaged_gradient as averaged_gradient,
)
from keras_adaad.backend.one_process import broadcast as broadcast
from keras_adaad.backend.one_process import check_optimizer as check_optimizer
from keras_adaad.backend.one_process import count as count
from keras_adaad.backend.one_process import start as start
from keras_adaad.backend.one_process import totals as totals
from keras_adaad.backend.one_process import (
    weighted_by_images as weighted_by_images,
)


def index():
    """Returns the index of this process. Process 0 writes the files."""
    return jax.process_index()
