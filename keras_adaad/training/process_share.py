"""Divides the work of `fit` and `evaluate` among several processes."""

import keras
import numpy as np

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad.checks.data import to_numpy


def share_of(data, name, count, index, training):
    """Returns every `count`-th image, or batch, starting at `index`.

    In training, all shares have the same size. If `count` does not divide the
    number of images of an array, the first images are repeated. If it does not
    divide the number of batches of a data set, the last batches are dropped.
    In evaluation, every image is in exactly one share.
    """
    if checks.is_array(data) or isinstance(data, list):
        rows = np.arange(index, _enough(len(data), name, count), count)
        if training:
            size = -(-len(data) // count)
            rows = np.arange(index, size * count, count) % len(data)
        return to_numpy(data)[rows]
    if isinstance(data, keras.utils.PyDataset):
        return _Share(data, name, count, index, training)
    if hasattr(data, "cardinality"):
        return _share_of_tf_dataset(data, name, count, index, training)
    # Recognised by name, because PyTorch is not imported here.
    sampler = getattr(data, "sampler", None)
    if type(sampler).__name__ == "DistributedSampler":
        return data
    raise ValueError(
        f"Several processes can't share argument `{name}`. Pass arrays, a "
        "`keras.utils.PyDataset`, a `tf.data.Dataset`, or a PyTorch "
        "`DataLoader` with a `torch.utils.data.DistributedSampler`. "
        f"Received: {name}={data!r}"
    )


class _Share(keras.utils.PyDataset):
    """Every n-th batch of a `PyDataset`."""

    def __init__(self, whole, name, count, index, training):
        super().__init__(
            workers=whole.workers,
            use_multiprocessing=whole.use_multiprocessing,
            max_queue_size=whole.max_queue_size,
        )
        self.whole = whole
        self.count = count
        self.index = index
        self.training = training
        if whole.num_batches is not None:
            _enough(whole.num_batches, name, count)

    @property
    def num_batches(self):
        total = self.whole.num_batches
        if total is None:
            return None
        if self.training:
            return total // self.count
        return len(range(self.index, total, self.count))

    def __getitem__(self, place):
        return self.whole[self.index + place * self.count]

    def on_epoch_begin(self):
        self.whole.on_epoch_begin()

    def on_epoch_end(self):
        self.whole.on_epoch_end()


def _share_of_tf_dataset(data, name, count, index, training):
    total = int(data.cardinality())
    share = data.shard(count, index)
    if total == -1:  # Infinite.
        return share
    if total < 0:
        raise ValueError(
            f"Argument `{name}` is a `tf.data.Dataset` of unknown length, and "
            "the processes need the same number of batches. State it, with "
            "`tf.data.experimental.assert_cardinality`. "
            f"Received: {name}={data!r}"
        )
    _enough(total, name, count)
    return share.take(total // count) if training else share


def _enough(size, name, count):
    if size < count:
        raise ValueError(
            f"Argument `{name}` must have an image, or a batch, for each of "
            f"the {count} processes. Received: {name} with {size}"
        )
    return size


def share_state(model):
    """Copies the first process's model and optimizer to all processes."""
    optimizer = getattr(model, "optimizer", None)
    backend.processes.broadcast(
        [*model.variables, *(optimizer.variables if optimizer else ())]
    )


def without_writers(callbacks):
    """Returns the callbacks without those that write files.

    Callbacks of this library set `writes_files = True` if they write files and
    do not subclass one of Keras's writers.
    """
    return [
        _Restore(callback)
        if isinstance(callback, keras.callbacks.BackupAndRestore)
        else callback
        for callback in callbacks
        if not _writes(callback)
    ]


def _writes(callback):
    writers = (
        keras.callbacks.CSVLogger,
        keras.callbacks.ModelCheckpoint,
        keras.callbacks.TensorBoard,
    )
    return isinstance(callback, writers) or getattr(
        callback, "writes_files", False
    )


class _Restore(keras.callbacks.Callback):
    """Restores from a `BackupAndRestore` callback, but does not back up."""

    def __init__(self, backup):
        super().__init__()
        self.backup = backup

    def on_train_begin(self, logs=None):
        self.backup.set_model(self.model)
        self.backup.on_train_begin(logs)
