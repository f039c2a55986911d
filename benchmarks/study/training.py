"""Training that resumes after the last completed epoch."""

import json
import math
import time

import keras

import keras_adaad
from keras_adaad import data
from keras_adaad.writing import write_atomically

# Metrics that may select the best epoch. The first that exists is used.
SELECTING = ("val_robust_accuracy", "val_accuracy")


def train(trainer, arm, images, held_out, budget, augmentation, seed, work):
    """Trains, after the last completed epoch.

    Args:
        trainer: A model whose `fit` trains the network.
        arm: The `Arm`.
        images: Pair of images and labels, or of images and `None`.
        held_out: Pair of images and labels.
        budget: The `Budget`.
        augmentation: Dict of arguments of `keras_adaad.data.load_arrays`.
        seed: Integer seed of order and augmentation.
        work: Folder of the unfinished run.

    Returns:
        A list of the logs of every epoch.
    """
    work.mkdir(parents=True, exist_ok=True)
    batches = data.load_arrays(
        *images, budget.batch_size, training=True, seed=seed, **augmentation
    )
    epochs = epochs_of(arm, images, budget)
    compile_trainer(trainer, arm, epochs * len(batches))
    backup = Backup(work)
    epochs_done = backup.restore(trainer)
    trainer.fit(
        batches,
        validation_data=held_out,
        validation_batch_size=budget.batch_size,
        epochs=epochs,
        initial_epoch=epochs_done,
        shuffle=False,
        callbacks=[
            data.SetEpoch(batches),
            SecondsPerEpoch(),
            KeepBest(work / "best.weights.h5", backup.rows),
            backup,
        ],
        verbose=2,
    )
    return backup.rows


def compile_trainer(trainer, arm, steps):
    """Gives a trainer the arm's optimizer, and a loss where it has none."""
    loss = {}
    if not isinstance(trainer, keras_adaad.AdversarialTraining):
        loss["loss"] = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        )
    trainer.compile(make_optimizer(arm, steps), metrics=["accuracy"], **loss)


def epochs_of(arm, images, budget):
    """Returns the number of epochs with the budget's number of updates.

    An epoch with more images than the budget's has more updates, so there are
    fewer epochs.
    """
    if arm.is_teacher:
        return budget.teacher_epochs
    steps = budget.images // budget.batch_size
    share = steps / (len(images[0]) // budget.batch_size)
    return max(1, round(arm.length * budget.epochs * share))


def make_optimizer(arm, steps):
    """Returns the optimizer of an arm, with a schedule of `steps` steps."""
    schedules = keras.optimizers.schedules
    average = {}
    if arm.averaging is not None:
        average = {"use_ema": True, "ema_momentum": arm.averaging}
    if arm.optimizer == "adam, cosine":
        schedule = schedules.CosineDecay(2e-3, steps)
        return keras.optimizers.Adam(schedule, **average)
    if arm.optimizer == "sgd, cosine":
        warmup = math.ceil(0.1 * steps)
        schedule = schedules.CosineDecay(
            0.01, steps - warmup, warmup_target=0.1, warmup_steps=warmup
        )
    else:
        drops = [math.ceil(share * steps) for share in (0.6, 0.85)]
        schedule = schedules.PiecewiseConstantDecay(drops, [0.1, 0.01, 0.001])
    return keras_adaad.optimizers.CoupledSGD(
        schedule, momentum=0.9, weight_decay=5e-4, **average
    )


class Backup(keras.callbacks.Callback):
    """Writes the state of the training, and the logs, after every epoch.

    `keras.callbacks.BackupAndRestore` writes weights and epoch one after the
    other, and a run that is killed between them repeats an epoch. Here the
    epoch is in the name of the weights' file.

    Args:
        folder: Where to write.

    Attributes:
        rows: List of the logs of the completed epochs.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.rows = []

    def restore(self, trainer):
        """Loads the backup, if any; returns the number of completed epochs."""
        numbers = [
            int(path.name.partition(".")[0])
            for path in self.folder.glob("[0-9]*.weights.h5")
        ]
        if not numbers:
            return 0
        done = max(numbers)
        # The optimizer's variables must exist before they are loaded.
        trainer.optimizer.build(trainer.trainable_variables)
        trainer.load_weights(self._weights(done))
        self.rows = json.loads(self._log.read_text())[:done]
        return done

    def on_epoch_end(self, epoch, logs=None):
        row = {name: float(value) for name, value in logs.items()}
        self.rows = [*self.rows[:epoch], {"epoch": epoch, **row}]
        rows = json.dumps(self.rows)
        write_atomically(self._log, lambda part: part.write_text(rows))
        write_atomically(self._weights(epoch + 1), self.model.save_weights)
        self._weights(epoch).unlink(missing_ok=True)

    @property
    def _log(self):
        return self.folder / "log.json"

    def _weights(self, done):
        return self.folder / f"{done}.weights.h5"


class SecondsPerEpoch(keras.callbacks.Callback):
    """Logs the seconds of training, without validation."""

    def on_epoch_begin(self, epoch, logs=None):
        self.begin = self.end = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.end = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = self.end - self.begin


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch that is best on the held-out images.

    Args:
        path: Where to write them.
        rows: The logs of the previous epochs of a resumed run.
    """

    def __init__(self, path, rows):
        super().__init__()
        self.path = path
        self.best = max(map(selecting, rows), default=-1.0)

    def on_epoch_end(self, epoch, logs=None):
        if selecting(logs) > self.best:
            self.best = selecting(logs)
            write_atomically(
                self.path, trained_network(self.model).save_weights
            )


def selecting(row):
    return next(row[name] for name in SELECTING if name in row)


def trained_network(trainer):
    """Returns the network that a trainer trains."""
    return getattr(trainer, "student", trainer)
