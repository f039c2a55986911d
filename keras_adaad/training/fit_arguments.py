"""The arguments of one call of `fit`, `evaluate` or `train_on_batch`."""

import dataclasses
import inspect
from typing import Any

import keras
import numpy as np

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad.backend import keras_private
from keras_adaad.training import batch_division
from keras_adaad.training import process_share

_Swap = keras.callbacks.SwapEMAWeights


@dataclasses.dataclass
class Data:
    """The images, labels and sample weights of one call.

    `x` may be a data set of batches. `name` is its argument, for messages.
    """

    name: str
    x: Any
    y: Any = None
    sample_weight: Any = None

    def first_batch(self):
        """Returns images and labels: whole arrays, or the first batch.

        The first batch of a generator is put back. Returns `None` if the
        batches are not arrays, such as those of a distributed data set.
        """
        if isinstance(self.y, (list, tuple)):
            self.y = np.asarray(self.y)
        whole = self.x is None or isinstance(self.x, (dict, list))
        if whole or self.is_array():
            return self.x, self.y
        batch, self.x = checks.first_batch(self.name, self.x)
        return batch

    def is_array(self):
        return checks.is_array(self.x)

    def take_share(self, training):
        """Reduces the data to the share of this process."""
        processes = backend.processes.count(), backend.processes.index()
        names = {"x": self.name, "y": "y", "sample_weight": "sample_weight"}
        for attribute, name in names.items():
            value = getattr(self, attribute)
            if value is not None:
                share = process_share.share_of(
                    value, name, *processes, training
                )
                setattr(self, attribute, share)


class EvaluateArguments:
    """The arguments of a call of `function`, a Keras method that takes data."""

    def __init__(self, function, args, kwargs):
        bound = inspect.signature(function).bind(*args, **kwargs)
        self.others = dict(bound.arguments)
        self.others.update(self.others.pop("kwargs", {}))
        self.data = Data(
            "x",
            self.others.pop("x", None),
            self.others.pop("y", None),
            self.others.pop("sample_weight", None),
        )

    def divide_between_processes(self):
        """Keeps this process's share; only the first process prints."""
        if backend.processes.count() > 1:
            self.data.take_share(training=False)
        if backend.processes.index() > 0:
            self.others["verbose"] = 0

    def check_batches(self):
        """Raises if the devices cannot divide a batch."""
        if self.data.is_array():
            size = self.others.get("batch_size")
            batch_division.check("x", len(self.data.x), size)

    def keywords(self):
        """Returns a dict of the arguments for Keras."""
        given = {
            "x": self.data.x,
            "y": self.data.y,
            "sample_weight": self.data.sample_weight,
        }
        given = {k: v for k, v in given.items() if v is not None}
        return {**self.others, **given}


class FitArguments(EvaluateArguments):
    """The arguments of one call of `fit`; see `EvaluateArguments`."""

    def __init__(self, function, args, kwargs):
        super().__init__(function, args, kwargs)
        held_out = self.others.pop("validation_data", None)
        self.validation = None
        if held_out is not None:
            held_out = keras.utils.unpack_x_y_sample_weight(held_out)
            self.validation = Data("validation_data", *held_out)
        callbacks = self.others.get("callbacks") or []
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = callbacks.callbacks
        self.callbacks = keras.tree.flatten(callbacks)
        _check_saved_is_validated(self.callbacks)

    def divide_between_processes(self, model):  # type: ignore[override]
        """Keeps this process's share; only the first process prints and writes.

        Every process starts with the state of the first. The model is built.
        """
        if backend.processes.count() > 1:
            process_share.share_state(model)
            self.data.take_share(training=True)
            if self.validation is not None:
                self.validation.take_share(training=False)
        if backend.processes.index() > 0:
            self.others["verbose"] = 0
            self.callbacks = process_share.without_writers(self.callbacks)

    def check_batches(self):
        size = self.others.get("batch_size")
        validation_size = self.others.get("validation_batch_size") or size
        if self.data.is_array():
            images = len(self.data.x)
            split = self.others.get("validation_split") or 0.0
            training = int(images * (1.0 - split))
            batch_division.check("x", training, size)
            batch_division.check("x", images - training, validation_size)
        if self.validation is not None and self.validation.is_array():
            images = len(self.validation.x)
            batch_division.check("validation_data", images, validation_size)

    def epochs(self):
        """Returns the number of epochs that this call runs."""
        first = self.others.get("initial_epoch", 0)
        return self.others.get("epochs", 1) - first

    def keywords(self):
        follower = EpochFollower(self.others.get("epochs", 1))
        swaps = [c for c in self.callbacks if isinstance(c, _Swap)]
        last = [_AverageOnStop(swap) for swap in swaps]
        given = {"callbacks": [follower, *self.callbacks, *last]}
        if self.validation is not None:
            data = self.validation
            given["validation_data"] = keras.utils.pack_x_y_sample_weight(
                data.x, data.y, data.sample_weight
            )
        return {**super().keywords(), **given}


def _check_saved_is_validated(callbacks):
    """Raises if a callback would keep other weights than it is meant to.

    `SwapEMAWeights` validates the averaged weights. Only with `swap_on_epoch`
    are they still in the model when a callback after it keeps them. A backup
    is of the weights that are trained, and so comes before.
    """
    swap = None
    for callback in callbacks:
        if isinstance(callback, _Swap):
            swap = callback
    if swap is None:
        return
    swapped = False
    for callback in callbacks:
        if callback is swap:
            swapped = swap.swap_on_epoch
        if swapped and isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "Argument `callbacks` has `BackupAndRestore` after "
                "`SwapEMAWeights(swap_on_epoch=True)`, so it would back up the "
                "averaged weights, and a resumed training would go on from "
                "them. Put it before."
            )
        if _keeps_the_validated(callback) and not swapped:
            name = type(callback).__name__
            raise ValueError(
                f"Argument `callbacks` has {name}, which would keep weights "
                f"other than those that {callback.monitor!r} measures, which "
                "`SwapEMAWeights` averages. Put `keras.callbacks."
                f"SwapEMAWeights(swap_on_epoch=True)` before {name}. Received: "
                f"swap_on_epoch={swap.swap_on_epoch}"
            )


def _keeps_the_validated(callback):
    keeps = isinstance(callback, keras.callbacks.ModelCheckpoint) or (
        isinstance(callback, keras.callbacks.EarlyStopping)
        and callback.restore_best_weights
    )
    return keeps and callback.monitor.startswith("val_")


class _AverageOnStop(keras.callbacks.Callback):
    """Leaves the average in a model whose training stops early.

    `fit` ends with the weights that the optimizer keeps apart. Keras makes them
    the average only in the last epoch that was planned.
    """

    def __init__(self, swap):
        super().__init__()
        self.swap = swap

    def on_epoch_end(self, epoch, logs=None):
        if self.swap.swap_on_epoch and self.model.stop_training:
            keras_private.finalize_average(self.swap)


class EpochFollower(keras.callbacks.Callback):
    """Sets the model's `epoch` and `epochs`, and checks settings and loss."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.epoch.assign(epoch)
        self.model.epochs.assign(self.epochs)

    def on_train_batch_begin(self, batch, logs=None):
        self.model._take_settings()

    def on_epoch_end(self, epoch, logs=None):
        # This runs before any callback that saves. No error is raised if
        # another callback has already stopped the training because of NaN.
        for name in ("loss", "val_loss"):
            if name in (logs or {}) and not self.model.stop_training:
                self.model.check_loss(name, logs[name])
