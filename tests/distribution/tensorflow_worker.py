"""What `test_tensorflow.py` trains, here and in each of two processes."""

import contextlib
import os
import pathlib
import signal
import sys
import time

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_adaad
from keras_adaad.attacks import PGD
from tests import networks

EXACT = PGD(epsilon=0.1, steps=2, start=None)


def load():
    data = load_digits()
    x = (data.images / 16.0).astype("float32")[..., None]
    return x, data.target.astype("int32")


def plain():
    return keras_adaad.AdaAD(
        networks.dense_net(),
        networks.dense_net(),
        EXACT,
        alpha=0.8,
        evaluation_attack=EXACT,
    )


def step(make, scope=None, images=32, **compiled):
    """Takes one step; returns the trainer, and all that there is to compare.

    Nothing in it is random, or goes by the batch.
    """
    x, y = (array[:images] for array in load())
    keras.utils.set_random_seed(0)
    with scope or contextlib.nullcontext():
        trainer = make()
        trainer.compile(
            keras.optimizers.SGD(0.1), metrics=["accuracy"], **compiled
        )
    before = weights_of(trainer)
    weights = np.linspace(0.5, 1.5, images, dtype="float32")
    history = trainer.fit(
        *(x, y),
        sample_weight=weights,
        validation_data=(x, y),
        batch_size=32,
        verbose=0,
    ).history
    after = weights_of(trainer)
    updates = [a - b for a, b in zip(after, before, strict=True)]
    states = {
        f"state {v.name}": keras.ops.convert_to_numpy(v)
        for v in trainer._states
    }
    return trainer, {
        **{f"update {i}": update for i, update in enumerate(updates)},
        **{f"log {name}": value for name, (value,) in history.items()},
        **states,
    }


def weights_of(trainer):
    trained = trainer.trained_networks()
    return [w for network in trained for w in network.get_weights()]


def evaluate(trainer):
    """Returns what a trained model is found to be."""
    x, y = load()
    # The last batch, of three, does not divide.
    logs = trainer.evaluate(x[32:67], y[32:67], return_dict=True, verbose=0)
    report = keras_adaad.evaluate_robustness(
        *(trainer.student, x[:32], y[:32], [EXACT]),
        epsilon=0.1,
        reliability_checks=False,
        curve=False,
        verbose=0,
    )
    return {
        **{f"evaluated {name}": value for name, value in logs.items()},
        "perturbed": trainer.perturb(x[:32], y[:32]),
        "robust": [report.clean_accuracy, report.accuracy("pgd")],
    }


def digits(scope=None, callbacks=()):
    """Trains on digits for three epochs, with BatchNorm and random starts.

    Returns:
        A tuple of the trained model and its accuracy, on clean images and on
        adversarial ones.
    """
    x, y = load()
    keras.utils.set_random_seed(0)
    with scope or contextlib.nullcontext():
        trainer = keras_adaad.PGDAT(
            networks.teacher_net(),
            PGD(epsilon=0.05, steps=2, start="uniform", seed=0),
        )
        trainer.compile(keras.optimizers.Adam(0.02), metrics=["accuracy"])
    trainer.fit(
        *(x[:1280], y[:1280]),
        batch_size=64,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    logs = trainer.evaluate(
        x[1280:], y[1280:], batch_size=47, return_dict=True, verbose=0
    )
    return trainer, np.array([logs["accuracy"], logs["robust_accuracy"]])


class Kill(keras.callbacks.Callback):
    """Kills its process in the middle of the second epoch."""

    def __init__(self, note):
        super().__init__()
        self.note = note

    def on_train_batch_end(self, batch, logs=None):
        epoch = keras.ops.convert_to_numpy(self.model.epoch)
        if epoch == 1 and batch == 9:
            self.note.write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder, task, worker):
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    callbacks = [
        keras_adaad.callbacks.StudentCheckpoint(
            folder / "student.keras", monitor="accuracy"
        ),
        keras.callbacks.CSVLogger(folder / "log.csv", append=True),
        keras.callbacks.BackupAndRestore(folder / "backup"),
    ]
    if task == "run":
        trainer, found = step(plain, strategy.scope())
        found.update(evaluate(trainer))
        np.savez(folder / f"step-{worker}.npz", **found)
        try:
            with strategy.scope():
                trainer.fit(*load(), verbose=0)
        except ValueError as error:
            (folder / f"refused-{worker}.txt").write_text(str(error))
        callbacks += [Kill(folder / "killed.txt")] * (worker == 1)
    trainer, accuracies = digits(strategy.scope(), callbacks)
    weights = trainer.student.get_weights()
    np.savez(folder / f"digits-{worker}.npz", accuracies, *weights)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
