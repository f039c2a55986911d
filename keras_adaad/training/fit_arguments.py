"""The arguments of one call of `fit`, `evaluate` or `train_on_batch`."""

import dataclasses
import inspect
import math
from typing import Any

import keras
import numpy as np

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad.training import batch_division
from keras_adaad.training import callback_checks
from keras_adaad.training import process_share


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

    @property
    def y_name(self):
        """The name of the argument with the labels, for messages."""
        return "y" if self.name == "x" else self.name

    def is_array(self):
        return checks.is_array(self.x)

    def take_share(self, training):
        """Reduces the data to the share of this process."""
        processes = backend.processes.count(), backend.processes.index()
        names = {
            "x": self.name,
            "y": self.y_name,
            "sample_weight": "sample_weight",
        }
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

    def divide_between_processes(self, model):
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
        callback_checks.check(self.callbacks)
        # Before it is shared: a data set of `keras_adaad.data`.
        self.set_epoch = getattr(self.data.x, "set_epoch", None)
        if self.set_epoch is not None:
            # It shuffles by itself. Keras would do so with no seed.
            self.others.setdefault("shuffle", False)
        if self.others.get("steps_per_epoch") is not None:
            self.set_epoch = None  # An epoch could end within a pass.

    def divide_between_processes(self, model):
        """Keeps this process's share; only the first process prints and writes.

        Every process starts with the state of the first. The model is built.
        """
        if backend.processes.count() > 1:
            callback_checks.check_in_processes(self.callbacks)
            process_share.share_state(model)
            self._hold_out()
            self.data.take_share(training=True)
            if self.validation is not None:
                self.validation.take_share(training=False)
        if backend.processes.index() > 0:
            self.others["verbose"] = 0
            self.callbacks = process_share.without_writers(self.callbacks)

    def _hold_out(self):
        """Takes the last images for validation, as `validation_split` says.

        Before the images are shared: some of them are then repeated.
        """
        split = self.others.pop("validation_split", None)
        if not split or self.validation is not None:
            return
        if not self.data.is_array():
            raise ValueError(
                "Argument `validation_split` needs images in an array. "
                f"Received: validation_split={split}, x={self.data.x!r}"
            )
        data, size = self.data, math.floor(len(self.data.x) * (1.0 - split))
        parts = [data.x, data.y, data.sample_weight]
        first, last = (
            [None if part is None else part[rows] for part in parts]
            for rows in (slice(size), slice(size, None))
        )
        self.data = Data(data.name, *first)
        self.validation = Data("validation_split", *last)

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
        epochs = self.others.get("epochs", 1)
        follower = EpochFollower(epochs, self.set_epoch)
        last = callback_checks.averages_on_stop(self.callbacks)
        given = {"callbacks": [follower, *self.callbacks, *last]}
        if self.validation is not None:
            data = self.validation
            given["validation_data"] = keras.utils.pack_x_y_sample_weight(
                data.x, data.y, data.sample_weight
            )
        return {**super().keywords(), **given}


class EpochFollower(keras.callbacks.Callback):
    """Tells model and data which epoch begins; checks settings and loss."""

    def __init__(self, epochs, set_epoch=None):
        super().__init__()
        self.epochs = epochs
        self.set_epoch = set_epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.model.start_epoch(epoch, self.epochs)
        if self.set_epoch is not None:
            self.set_epoch(epoch)

    def on_train_end(self, logs=None):
        # Otherwise another training would see the last epoch again and again.
        if self.set_epoch is not None:
            self.set_epoch(None)

    def on_train_batch_begin(self, batch, logs=None):
        self.model._take_settings()

    def on_epoch_end(self, epoch, logs=None):
        # This runs before any callback that saves.
        self.model.end_epoch()
        # No error is raised if another callback has already stopped the
        # training because of NaN.
        for name in ("loss", "val_loss"):
            if name in (logs or {}) and not self.model.stop_training:
                self.model.check_loss(name, logs[name])
