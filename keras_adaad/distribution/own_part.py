"""What one of several processes does of `fit` and of `evaluate`."""

import keras

from keras_adaad import backend
from keras_adaad.distribution.parts import part_of


def of_fit(model, arguments):
    """Changes the arguments of `fit` to those of this process.

    Args:
        model: The `keras_adaad.AdversarialTraining`, built.
        arguments: Dict of the arguments by name.
    """
    if backend.processes.count() > 1:
        _take_parts(model, arguments)
    if backend.processes.index() > 0:
        arguments["verbose"] = 0
        arguments["callbacks"] = _without_writers(arguments["callbacks"])


def _take_parts(model, arguments):
    optimizer = getattr(model, "optimizer", None)
    backend.processes.broadcast(
        [*model.variables, *(optimizer.variables if optimizer else ())]
    )
    _take_part(arguments, "x", "y", "sample_weight", training=True)
    if arguments.get("validation_data") is not None:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(
            arguments["validation_data"]
        )
        held_out = {"validation_data": x, "y": y, "sample_weight": weight}
        _take_part(held_out, *held_out, training=False)
        arguments["validation_data"] = keras.utils.pack_x_y_sample_weight(
            *held_out.values()
        )


def of_evaluate(arguments):
    """Changes the arguments of `evaluate` to those of this process."""
    if backend.processes.count() > 1:
        _take_part(arguments, "x", "y", "sample_weight", training=False)
    if backend.processes.index() > 0:
        arguments["verbose"] = 0


def _take_part(arguments, *names, training):
    """Changes images, labels and weights to the part of this process."""
    for name in names:
        if arguments.get(name) is not None:
            arguments[name] = part_of(
                arguments[name],
                name,
                backend.processes.count(),
                backend.processes.index(),
                training,
            )


def _without_writers(callbacks):
    # Here, because this room is there before that of the callbacks.
    from keras_adaad.callbacks import StochasticWeightAveraging

    writers = (
        keras.callbacks.CSVLogger,
        keras.callbacks.ModelCheckpoint,
        keras.callbacks.TensorBoard,
        StochasticWeightAveraging,
    )
    return [
        _Restore(callback)
        if isinstance(callback, keras.callbacks.BackupAndRestore)
        else callback
        for callback in callbacks
        if not isinstance(callback, writers)
    ]


class _Restore(keras.callbacks.Callback):
    """The half of `BackupAndRestore` that only reads."""

    def __init__(self, backup):
        super().__init__()
        self.backup = backup

    def on_train_begin(self, logs=None):
        self.backup.set_model(self.model)
        self.backup.on_train_begin(logs)
