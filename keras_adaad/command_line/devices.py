"""The devices of `--devices`. TensorFlow has a strategy for several."""

import contextlib

import click
import keras


def device_scope(number):
    """Returns the scope in which to create the models of a run.

    A batch is split among the devices; the teacher is on each of them.
    """
    if number == 1:
        return contextlib.nullcontext()
    backend = keras.config.backend()
    if backend == "torch":
        raise click.UsageError(
            f"--devices {number} needs TensorFlow or JAX: with PyTorch, `fit` "
            "of Keras 3.15 runs on one device. Set KERAS_BACKEND."
        )
    if backend == "jax":
        devices = keras.distribution.list_devices()
    else:
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU")
        devices = devices or tf.config.list_logical_devices("CPU")
        devices = [device.name for device in devices]
    if len(devices) < number:
        raise click.UsageError(
            f"--devices {number} is more than {backend} sees: {len(devices)}. "
            "Give fewer."
        )
    if backend == "jax":
        distribution = keras.distribution.DataParallel(devices=devices[:number])
        keras.distribution.set_distribution(distribution)
        return contextlib.nullcontext()
    return tf.distribute.MirroredStrategy(devices[:number]).scope()
