"""Stochastic weight averaging, with the BatchNorm statistics it needs."""

import pathlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import DataSet
from keras_adaad._typing import PathLike
from keras_adaad.frozen.fingerprint import layers_within
from keras_adaad.models.copying import copy_model
from keras_adaad.models.copying import finalize_state
from keras_adaad.training.adversarial_training import AdversarialTraining
from keras_adaad.writing import saving_in_one_process
from keras_adaad.writing import write_atomically


class StochasticWeightAveraging(keras.callbacks.Callback):
    """Averages the student's weights at the ends of the last epochs.

    `student` is the equal average of the trained student's trainable weights
    at the end of each epoch from `start_epoch` on. Averaging does not yield
    valid BatchNorm statistics, so they are estimated anew: as the mean, over
    the batches of `dataset`, of each batch's mean and variance. All other state
    is that of the trained student. The training itself is not affected.

    The averaged student, a plain `keras.Model`, is written to `filepath` after
    each of these epochs. It replaces the previous file once it is complete. Two
    files beside it, the averages after this epoch and the previous one, let a
    killed run resume exactly. Put this callback before
    `keras.callbacks.BackupAndRestore`.

    Keras has exponential averages of its own: an optimizer with
    `use_ema=True`, and `keras.callbacks.SwapEMAWeights(swap_on_epoch=True)`
    before a checkpoint, to validate and save with them. Both work in a
    distiller's `fit`; the BatchNorm statistics are then those of the trained
    student.

    With several processes, the first one averages, on one device and over all
    of `dataset`, while the others wait.

    Args:
        dataset: Images to estimate the BatchNorm statistics on, as
            `keras.Model.predict` takes them: an array, or a data set of
            batches of images or of `(images, labels)`. It is iterated once per
            epoch, so it can't be a generator. Make one for this purpose: the
            data set of `fit` may draw other images after each iteration, and
            the training would then change.
        start_epoch: The first epoch to average, counted from 0. The reference
            code of SAAD counts from 1 and starts at 95 of 200, which is 94
            here, before the first drop of the learning rate.
        filepath: Local path to write to, e.g. `"averaged.keras"`.

    Attributes:
        student: The averaged student, or `None` before there is one.

    Raises:
        TypeError: If the student can't be created from its `get_config()`.
        ValueError: If a copy of the student has other logits, an argument is
            out of range, or `fit` begins after `start_epoch` and the average
            of the previous epochs is missing.

    Example:

    ```python
    averaging = keras_adaad.callbacks.StochasticWeightAveraging(
        keras_adaad.data.load_tfds("cifar10", "train"),
        start_epoch=94,
        filepath="averaged.keras",
    )
    distiller.fit(train_ds, epochs=200, callbacks=[averaging])
    student = keras.models.load_model("averaged.keras")
    ```

    Reference:
        - [Izmailov et al., 2018](https://arxiv.org/abs/1803.05407),
          algorithm 1.
    """

    # With several processes, only one runs this callback.
    writes_files = True

    def __init__(
        self, dataset: DataSet, start_epoch: int, filepath: PathLike
    ) -> None:
        super().__init__()
        if hasattr(dataset, "__next__"):
            raise ValueError(
                "Argument `dataset` must be an array or a data set that can be "
                "gone through more than once, such as a `tf.data.Dataset`. "
                f"Received: dataset={dataset!r}"
            )
        self.filepath = pathlib.Path(filepath)
        if self.filepath.suffix != ".keras":
            raise ValueError(
                "Argument `filepath` must end in `.keras`. "
                f"Received: filepath={filepath!r}"
            )
        self.dataset = dataset
        self.start_epoch = checks.check_integer("start_epoch", start_epoch, 0)
        self.student: Any = None
        self._last_epoch: int | None = None
        self._estimator: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        # A student that can't be copied must fail now, not days later.
        if self.student is None:
            with saving_in_one_process():
                keras.models.clone_model(self._trained_student())

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if epoch > self.start_epoch and epoch - 1 != self._last_epoch:
            self._resume(epoch)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if epoch < self.start_epoch:
            return
        self._begin()
        with saving_in_one_process():
            self._average(1.0 / (epoch - self.start_epoch + 1))
            self._estimate_statistics()
            self._save(epoch)
        self._last_epoch = epoch

    def _average(self, share):
        for average, weight in zip(
            self.student.weights, self._trained_student().weights, strict=True
        ):
            # A copy, because JAX reuses the memory of an array in the next
            # step. On the host, because arrays that span processes do not
            # combine with those of one process.
            value = np.array(ops.convert_to_numpy(weight))
            if weight.trainable:
                before = ops.convert_to_numpy(average)
                value = (1.0 - share) * before + share * value
            average.assign(value)
        finalize_state(self.student)

    def _trained_student(self):
        model = self.model
        return (
            model.student if isinstance(model, AdversarialTraining) else model
        )

    def _begin(self):
        if self.student is None:
            # The trained student may span processes that do not run this.
            compare = keras.distribution.distribution() is None
            with saving_in_one_process():
                self.student = copy_model(
                    self._trained_student(), compare=compare
                )

    def _estimate_statistics(self):
        if not _statistics(self.student):
            return
        if self._estimator is None:
            self._estimator = _Estimator(self.student)
        self._estimator.estimate(self.dataset)

    def _save(self, epoch):
        state = self._state_path(epoch)
        write_atomically(state, self.student.save_weights)
        write_atomically(self.filepath, self.student.save)
        self._state_path(epoch - 2).unlink(missing_ok=True)

    def _resume(self, epoch):
        state = self._state_path(epoch - 1)
        if not state.exists():
            raise ValueError(
                f"Training begins at epoch {epoch}, after `start_epoch`, and "
                f"the average of the epochs before is missing: {state}. Put "
                "`StochasticWeightAveraging` before `BackupAndRestore`, with "
                "the `start_epoch` and `filepath` of the run that is resumed. "
                f"Received: start_epoch={self.start_epoch}, "
                f"filepath={str(self.filepath)!r}"
            )
        self._begin()
        with saving_in_one_process():
            self.student.load_weights(state)

    def _state_path(self, epoch):
        epochs = f"epochs_{self.start_epoch}_to_{epoch}"
        return self.filepath.with_name(
            f"{self.filepath.stem}.{epochs}.weights.h5"
        )


class _Estimator(keras.Model):
    """Averages a network's batch statistics over a data set.

    `predict` runs the network in training mode, and sums the statistics that
    its BatchNorm layers compute for each batch.
    """

    def __init__(self, network):
        # As in training, images are not cast before the student.
        super().__init__(
            name="estimator", dtype=network.dtype_policy, autocast=False
        )
        self.network = network
        self.sums = [
            self._add_sum(v.shape, f"sum_{i}")
            for i, v in enumerate(_statistics(network))
        ]
        self.num_batches = self._add_sum((), "num_batches")
        self.built = True

    def _add_sum(self, shape, name):
        return self.add_weight(
            shape=shape,
            initializer="zeros",
            dtype="float32",
            trainable=False,
            aggregation="mean",
            name=name,
        )

    def call(self, x):
        outputs = self.network(ops.cast(x, "float32"), training=True)
        for total, statistic in zip(
            self.sums, _statistics(self.network), strict=True
        ):
            total.assign(total + ops.cast(statistic, "float32"))
        self.num_batches.assign(self.num_batches + 1.0)
        return outputs

    def estimate(self, dataset):
        """Sets the network's statistics to their mean over the batches."""
        for total in (*self.sums, self.num_batches):
            total.assign(ops.zeros(total.shape))
        layers = _batch_norms(self.network)
        momentums = [layer.momentum for layer in layers]
        for layer in layers:
            # Makes the moving statistics those of the last batch.
            layer.momentum = 0.0
        try:
            self.predict(dataset, verbose=0)
        finally:
            for layer, momentum in zip(layers, momentums, strict=True):
                layer.momentum = momentum
        for total, statistic in zip(
            self.sums, _statistics(self.network), strict=True
        ):
            statistic.assign(total / self.num_batches)


def _statistics(network):
    return [
        variable
        for layer in _batch_norms(network)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]


def _batch_norms(network):
    """Returns the BatchNorm layers within a network, at any depth."""
    return [
        layer
        for layer in layers_within(network)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
