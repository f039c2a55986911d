"""Batches as a `tf.data.Dataset` or as Keras's own `PyDataset`."""

import importlib.util
import itertools

import keras

from keras_adaad import checks


def make_dataset(batches, pipeline=None):
    """Returns `Batches` as a data set with `set_epoch(epoch)` and `batches`."""
    checks.check_choice("pipeline", pipeline, ("tf.data", "py_dataset", None))
    if pipeline is None:
        pipeline = "tf.data" if has_tensorflow() else "py_dataset"
    if pipeline == "py_dataset":
        return BatchesPyDataset(batches)
    from keras_adaad.data.tf_data import make_tf_dataset

    counter = EpochCounter()
    dataset = make_tf_dataset(batches, counter.next_pass)
    dataset.set_epoch = counter.set_epoch
    dataset.batches = batches
    return dataset


def has_tensorflow():
    """Whether TensorFlow is installed; it is not imported."""
    return importlib.util.find_spec("tensorflow") is not None


class EpochCounter:
    """Numbers the passes over the data as epochs.

    A pass has the epoch that was set. Without one, and after `None` has been
    set, passes are counted from 0.
    """

    def __init__(self):
        self.epoch = None
        self.passes = itertools.count()

    def set_epoch(self, epoch):
        self.epoch = epoch

    def next_pass(self):
        return next(self.passes) if self.epoch is None else self.epoch


class BatchesPyDataset(keras.utils.PyDataset):
    """`Batches` as a `keras.utils.PyDataset`, for any backend."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches
        self.counter = EpochCounter()
        self.epoch = self.counter.next_pass()

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches.batch(self.epoch, index)

    def set_epoch(self, epoch):
        self.counter.set_epoch(epoch)
        if epoch is not None:
            self.epoch = epoch

    def on_epoch_begin(self):
        self.epoch = self.counter.next_pass()
