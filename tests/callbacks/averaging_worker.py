"""One of two processes that train together; see `test_weight_averaging.py`."""

import os
import pathlib
import sys

import jax
import keras
import numpy as np
from sklearn.datasets import load_digits

BATCH = 16


def load():
    digits = load_digits()
    x = (digits.images[:32] / 16.0).astype("float32")[..., None]
    return x, digits.target[:32].astype("int32")


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
    averaging = keras_adaad.callbacks.StochasticWeightAveraging(x, 0, filepath)
    own = [
        np.concatenate([part[rows] for part in np.split(array, 2)])
        for array in (x, y)
    ]
    distiller.fit(
        *own,
        batch_size=batch_size,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[averaging],
    )
    return averaging.student


def main(index, port, folder):
    jax.distributed.initialize(
        f"localhost:{port}", 2, index, heartbeat_timeout_seconds=10
    )
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    half = BATCH // 2
    rows = slice(index * half, (index + 1) * half)
    student = average(folder / "averaged.keras", *load(), half, rows)
    assert (student is None) == (index > 0)


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main(int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]))
