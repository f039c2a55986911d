"""Checks of the callbacks of `fit`, and what they need to do their work."""

import json
import pathlib
import shutil

import keras

from keras_adaad.backend import keras_private

_Swap = keras.callbacks.SwapEMAWeights


def check(callbacks):
    """Raises if callbacks would do something else than they are meant to."""
    _check_saved_is_validated(callbacks)
    for callback in callbacks:
        _set_direction(callback)
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            restore_complete_backup(callback.backup_dir)


def check_in_processes(callbacks):
    """Raises if a callback would stop one of several processes."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.TerminateOnNaN):
            raise ValueError(
                "Argument `callbacks` has `TerminateOnNaN`, which stops one "
                "process while the others wait for it. Remove it: `fit` "
                "raises in every process if the loss of an epoch is NaN."
            )


def averages_on_stop(callbacks):
    """Returns the callbacks that end an early stop with the averages."""
    swaps = [c for c in callbacks if isinstance(c, _Swap)]
    return [_AverageOnStop(swap) for swap in swaps]


def restore_complete_backup(folder):
    """Puts the previous backup in place of one whose writing was killed.

    `BackupAndRestore(double_checkpoint=True)` keeps it beside the last one.
    """
    folder = pathlib.Path(folder)
    names = ("latest.weights.h5", "training_metadata.json")
    metadata = folder / names[1]
    if not metadata.exists():
        return
    try:
        json.loads(metadata.read_text())
    except ValueError as error:
        if not all((folder / f"{name}.bkp").exists() for name in names):
            raise ValueError(
                f"The backup in {str(folder)!r} is not complete: the process "
                "was killed while it was written. Delete the folder to start "
                "anew. `BackupAndRestore(..., double_checkpoint=True)` keeps "
                f"the backup before. Received: {metadata.name} ({error})"
            ) from error
        for name in names:
            shutil.copyfile(folder / f"{name}.bkp", folder / name)


def _set_direction(callback):
    """Says that more accuracy is better, which Keras knows of its own only."""
    monitor = getattr(callback, "monitor", None)
    if not isinstance(monitor, str) or not monitor.endswith("accuracy"):
        return
    if getattr(callback, "mode", None) == "auto":
        callback.mode = "max"


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
    swapped, measured = False, False
    for callback in callbacks:
        measured |= getattr(callback, "measures_weights", False) and not swapped
        if callback is swap:
            swapped = swap.swap_on_epoch
        if swapped and isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "Argument `callbacks` has `BackupAndRestore` after "
                "`SwapEMAWeights(swap_on_epoch=True)`, so it would back up the "
                "averaged weights, and a resumed training would go on from "
                "them. Put it before."
            )
        if measured and _keeps_the_validated(callback):
            raise ValueError(
                "Argument `callbacks` has `RobustEvaluation` before "
                "`SwapEMAWeights`, so it measures the weights that are "
                f"trained, and {type(callback).__name__} keeps the averaged "
                "ones. Put `RobustEvaluation` after `SwapEMAWeights`."
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
