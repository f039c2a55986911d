"""The everyday checkpoint: the student alone."""

import keras


class StudentCheckpoint(keras.callbacks.ModelCheckpoint):
    """A `keras.callbacks.ModelCheckpoint` that writes the student only.

    The teacher, often many times larger and never changing, stays out of the
    file. What is written is a plain `keras.Model`.

    Args:
        filepath: Where to write, e.g. `"student.keras"`, or
            `"student.weights.h5"` with `save_weights_only=True`.
        monitor: Log to watch. Defaults to `"val_robust_accuracy"`.
        mode: `"max"`, `"min"` or `"auto"`. Defaults to `"max"`.
        **kwargs: Other arguments of `keras.callbacks.ModelCheckpoint`.

    Example:

    ```python
    best = keras_adaad.callbacks.StudentCheckpoint(
        "student.keras", save_best_only=True
    )
    distiller.fit(train_ds, validation_data=test_ds, callbacks=[best])
    student = keras.models.load_model("student.keras")
    ```
    """

    def __init__(
        self, filepath, monitor="val_robust_accuracy", mode="max", **kwargs
    ):
        super().__init__(filepath, monitor=monitor, mode=mode, **kwargs)

    @property
    def model(self):
        return super().model.student
