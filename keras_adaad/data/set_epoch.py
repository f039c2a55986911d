"""Sets the epoch of a data set, so that a run resumes exactly."""

from typing import Any

import keras

from keras_adaad._typing import DataSet


class SetEpoch(keras.callbacks.Callback):
    """Tells a training data set which epoch begins.

    The `fit` of a distiller does this by itself, for what a loader of
    `keras_adaad.data` returned. The callback is for `fit` of other models, and
    for data sets made from the loader's, e.g. with `dataset.map(...)`.

    The order and the augmentation of the images then depend only on the seed
    and the epoch: a run resumed by `keras.callbacks.BackupAndRestore` sees the
    same batches as an uninterrupted run. Without this callback, the data set
    counts its passes, in a resumed run too. Keras may read a pass before the
    first epoch, and that pass counts.

    Pass `shuffle=False` to `fit`: the data set is already shuffled, and Keras
    would take its batches in an order that depends on no seed. Do not pass
    `steps_per_epoch`: an epoch would begin in the middle of a pass.

    Args:
        dataset: What `keras_adaad.data.load_tfds`, `load_folder` or
            `load_arrays` returned.

    Raises:
        TypeError: If `dataset` is something else.

    Example:

    ```python
    train = keras_adaad.data.load_tfds("cifar10", "train", training=True)
    teacher.fit(
        train,
        epochs=200,
        shuffle=False,
        callbacks=[
            keras_adaad.data.SetEpoch(train),
            keras.callbacks.BackupAndRestore("backup", double_checkpoint=True),
        ],
    )
    ```
    """

    def __init__(self, dataset: DataSet) -> None:
        super().__init__()
        if not hasattr(dataset, "set_epoch"):
            raise TypeError(
                "Argument `dataset` must be what a loader of "
                "`keras_adaad.data` returned, before any `map` or `batch`. "
                f"Received: dataset={dataset!r}"
            )
        self.dataset = dataset

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self.dataset.set_epoch(epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        # Otherwise another training would see the last epoch again and again.
        self.dataset.set_epoch(None)
