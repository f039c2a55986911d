"""Processes on TensorFlow and JAX, where Keras distributes by itself.

This module has the names of `torch_processes.py`. They have nothing to do.
"""

import contextlib

import keras


def start():
    """Raises an error, because `torchrun` needs the PyTorch backend."""
    instead = {
        "tensorflow": "Build and compile under the scope of a "
        "`tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy`.",
        "jax": "Call `keras.distribution.set_distribution("
        "keras.distribution.DataParallel())`; on several hosts, "
        "`keras.distribution.initialize()` before it.",
    }[keras.config.backend()]
    raise ValueError(
        "`keras_adaad.distribution.initialize()` is for the PyTorch backend. "
        f"{instead} Received: KERAS_BACKEND={keras.config.backend()!r}"
    )


def count():
    return 1


def broadcast(variables):
    pass


def check_optimizer(optimizer):
    """Raises if an optimizer would take other steps than on one device."""


def weighted_by_images(loss, per_image):
    """Returns a replica's mean loss, weighted by its number of images."""
    return loss


def averaged_gradient(loss, variables):
    return loss


def totals(variables):
    return contextlib.nullcontext()
