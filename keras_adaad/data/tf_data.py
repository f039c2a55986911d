"""The `tf.data` pipeline, in the only file here that imports TensorFlow."""

import contextlib

import keras
import numpy as np


def import_tensorflow():
    """Returns TensorFlow, without GPUs if Keras has another backend.

    TensorFlow would take all of their memory.
    """
    import tensorflow as tf

    if keras.config.backend() != "tensorflow":
        # Raises if TensorFlow is already initialised: its user has decided.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
    return tf


def make_tf_dataset(batches, next_pass):
    """Returns `Batches` as a finite `tf.data.Dataset`.

    `next_pass` is called at the start of each pass, and returns its epoch.
    """
    tf = import_tensorflow()
    example = batches.batch(0, 0)
    arrays = tf.nest.flatten(example)
    full = batches.last_size() == batches.batch_size
    size = batches.batch_size if full else None

    def begin():
        return np.int64(next_pass())

    def read(epoch, index):
        tensors = tf.numpy_function(
            lambda *place: tf.nest.flatten(batches.batch(*place)),
            [epoch, index],
            [array.dtype for array in arrays],
        )
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor.set_shape((size, *array.shape[1:]))
        return tf.nest.pack_sequence_as(example, tensors)

    epochs = tf.data.Dataset.range(1).map(
        lambda _: tf.numpy_function(begin, [], tf.int64)
    )
    indices = tf.data.Dataset.range(len(batches))
    places = epochs.flat_map(
        lambda epoch: indices.map(lambda index: (epoch, index))
    )
    places = places.apply(tf.data.experimental.assert_cardinality(len(batches)))
    options = tf.data.Options()
    # There is nothing to tune, and the tuning thread delays the end of an
    # epoch; see `_without_tuning` of the TensorFlow backend.
    options.autotune.enabled = False
    return places.map(read).prefetch(tf.data.AUTOTUNE).with_options(options)
