"""A checkpoint callback that saves only the student."""

import functools
import pathlib
from typing import Any

import keras

from keras_adaad._typing import PathLike
from keras_adaad.writing import saving_in_one_process
from keras_adaad.writing import write_atomically


class StudentCheckpoint(keras.callbacks.ModelCheckpoint):
    """A `keras.callbacks.ModelCheckpoint` that writes the student only.

    A frozen teacher does not change and is often many times larger, so it is
    not saved. Nor is a teacher that learns: for that of `CIARD`, save the whole
    trainer. The file holds a plain `keras.Model`. It replaces the previous file
    once it is complete, so a run that is killed meanwhile keeps that one.

    Args:
        filepath: Where to write, e.g. `"student.keras"`, or
            `"student.weights.h5"` with `save_weights_only=True`.
        monitor: Log to watch. Defaults to `"val_robust_accuracy"`.
        mode: `"max"`, `"min"` or `"auto"`, which is `"min"` for a loss and
            `"max"` for anything else. Defaults to `"auto"`.
        **kwargs: Other arguments of `keras.callbacks.ModelCheckpoint`. With
            `save_best_only=True`, a resumed run knows the best value so far
            only if `initial_value_threshold` states it.

    Raises:
        ValueError: If `fit` trains a model that has no student.

    Example:

    ```python
    best = keras_adaad.callbacks.StudentCheckpoint(
        "student.keras", save_best_only=True
    )
    distiller.fit(train_ds, validation_data=val_ds, callbacks=[best])
    student = keras.models.load_model("student.keras")
    ```
    """

    def __init__(
        self,
        filepath: PathLike,
        monitor: str = "val_robust_accuracy",
        mode: str = "auto",
        **kwargs: Any,
    ) -> None:
        if mode == "auto":
            mode = "min" if monitor.endswith("loss") else "max"
        super().__init__(filepath, monitor=monitor, mode=mode, **kwargs)

    def set_model(self, model: keras.Model) -> None:
        if not isinstance(getattr(model, "student", None), keras.Model):
            raise ValueError(
                "`StudentCheckpoint` saves the student of a method, such as "
                "`keras_adaad.AdaAD`. A model that trains by itself is saved "
                "by `keras.callbacks.ModelCheckpoint`. "
                f"Received: a `fit` of {model.name!r} ({type(model).__name__})"
            )
        super().set_model(model)

    @property
    def model(self) -> Any:
        return _WholeSaves(super().model.student)


class _WholeSaves:
    """Saves a model to a temporary file, then moves it into place."""

    def __init__(self, model):
        self.save_model = model.save
        self.save_model_weights = model.save_weights

    def save(self, filepath, **arguments):
        self._whole(self.save_model, filepath, arguments)

    def save_weights(self, filepath, **arguments):
        self._whole(self.save_model_weights, filepath, arguments)

    def _whole(self, save, filepath, arguments):
        save = functools.partial(save, **arguments)
        with saving_in_one_process():
            if "://" in str(filepath):  # Buckets have no such move.
                return save(filepath)
            write_atomically(pathlib.Path(filepath), save)
