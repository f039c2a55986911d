"""One of two processes that train together; see `test_jax.py`."""

import json
import os
import pathlib
import signal
import sys

import jax
import keras
import numpy as np
from sklearn.datasets import load_digits

BATCH = 32


def train_and_evaluate(x, y, batch_size=BATCH, rows=slice(None), callbacks=()):
    """Trains for three epochs; returns all that there is to compare.

    Args:
        x: All images, the same in every process.
        y: Their labels.
        batch_size: Images of this process in a batch.
        rows: Which of the images of a batch this process trains on.
        callbacks: Callbacks of `fit`.
    """
    import keras_adaad
    from tests import networks

    keras.utils.set_random_seed(0)
    attack = keras_adaad.attacks.PGD(epsilon=0.1, steps=1, seed=0)
    distiller = keras_adaad.AdaAD(
        networks.dense_net(),
        networks.dense_net(),
        attack,
        evaluation_attack=attack,
    )
    distiller.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    x_own, y_own = (parts_of_batches(a[: 4 * BATCH], rows) for a in (x, y))
    history = distiller.fit(
        *(x_own, y_own),
        batch_size=batch_size,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    options = {"batch_size": batch_size, "verbose": 0, "return_dict": True}
    report = keras_adaad.evaluate_robustness(
        distiller.student,
        *(x[:BATCH], y[:BATCH], [attack]),
        epsilon=0.1,
        batch_size=BATCH,
        reliability_checks=False,
        curve=False,
        verbose=0,
    )
    return {
        "last_loss": history.history["loss"][-1],
        "last_accuracy": history.history["accuracy"][-1],
        "evaluated": list(distiller.evaluate(x_own, y_own, **options).values()),
        "weights": [float(np.abs(w).sum()) for w in distiller.get_weights()],
        "perturbed": float(distiller.perturb(x[:BATCH]).sum()),
        "perturbed_odd": float(distiller.perturb(x[:9]).sum()),
        "robust": [report.clean_accuracy, report.accuracy("pgd")],
    }


def average(filepath, x, y, batch_size=BATCH, rows=slice(None)):
    """Trains for two epochs; returns the average, where it was made.

    Args:
        filepath: Where the average is written.
        x: All images, the same in every process.
        y: Their labels.
        batch_size: Images of this process in a batch.
        rows: Which of the images of a batch this process trains on.
    """
    import keras_adaad
    from tests import networks

    keras.utils.set_random_seed(0)
    distiller = keras_adaad.AdaAD(
        networks.teacher_net(),
        networks.student_net(),
        keras_adaad.attacks.PGD(epsilon=0.1, steps=1, start=None),
    )
    distiller.compile(keras.optimizers.SGD(0.1))
    x, y = x[: 2 * BATCH], y[: 2 * BATCH]
    averaging = keras_adaad.callbacks.StochasticWeightAveraging(x, 0, filepath)
    distiller.fit(
        *(parts_of_batches(array, rows) for array in (x, y)),
        batch_size=batch_size,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[averaging],
    )
    return averaging.student


def parts_of_batches(array, rows):
    """Returns these rows of each batch."""
    batches = np.split(array, len(array) // BATCH)
    return np.concatenate([batch[rows] for batch in batches])


class Kill(keras.callbacks.Callback):
    """Notes the epochs, and kills this process in the middle of epoch 2."""

    def __init__(self, kill):
        super().__init__()
        self.kill = kill
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if self.kill and self.epochs[-1] == 1 and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def main(index, port, folder, action):
    # As `keras.distribution.initialize` does, but a dead process is missed
    # after five seconds: JAX's default is 100.
    jax.distributed.initialize(
        f"localhost:{port}", 2, index, heartbeat_timeout_seconds=5
    )
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    import keras_adaad

    kill = Kill(action == "kill" and index == 1)
    data = load_digits()
    digits = (data.images / 16.0).astype("float32")[..., None], data.target
    half = BATCH // 2
    own = {
        "batch_size": half,
        "rows": slice(index * half, (index + 1) * half),
    }
    found = train_and_evaluate(
        *digits,
        **own,
        callbacks=[
            keras.callbacks.BackupAndRestore(folder / "backup"),
            keras_adaad.callbacks.StudentCheckpoint(
                folder / "student.keras", monitor="accuracy"
            ),
            kill,
        ],
    )
    found["epochs"] = kill.epochs
    (folder / f"{index}.json").write_text(json.dumps(found))
    averaged = average(folder / "averaged.keras", *digits, **own)
    assert (averaged is None) == (index > 0)


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    # `keras.utils.set_random_seed` would import it, for seconds.
    import tests.data.without_tensorflow  # noqa: F401

    main(int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4])
