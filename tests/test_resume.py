"""A run killed in epoch 3 of 5 ends where an uninterrupted one does."""

import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_adaad
from tests import networks


class Watch(keras.callbacks.Callback):
    """Prints the epochs, and may kill the process in the third of them."""

    def __init__(self, kills):
        super().__init__()
        self.kills = kills

    def on_epoch_begin(self, epoch, logs=None):
        self.current = epoch + 1
        print("epoch", self.current, flush=True)

    def on_train_batch_end(self, batch, logs=None):
        if self.kills and self.current == 3 and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder, kills=False):
    """Trains, with a backup after each epoch, and writes the weights."""
    data = load_digits()
    x = (data.images[:64] / 16.0).astype("float32")[..., None]
    y = data.target[:64]
    keras.utils.set_random_seed(0)
    distiller = keras_adaad.AdaAD(
        networks.teacher_net(),
        networks.student_net(),
        keras_adaad.attacks.PGD(epsilon=0.1, steps=2, start="uniform", seed=0),
    )
    distiller.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    distiller.fit(
        x,
        y,
        batch_size=16,
        epochs=5,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.BackupAndRestore(folder / "backup"),
            Watch(kills),
        ],
    )
    np.savez(folder / "weights.npz", *distiller.student.get_weights())


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "tests.test_resume", str(folder), *arguments],
        capture_output=True,
        text=True,
    )


def test_killed_run_resumes(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    result = run(whole)
    assert result.returncode == 0, result.stderr
    result = run(broken, "kill")
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert result.stdout.split() == ["epoch", "1", "epoch", "2", "epoch", "3"]
    assert not (broken / "weights.npz").exists()
    result = run(broken)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:3] == ["epoch 3", "epoch 4", "epoch 5"]
    expected = np.load(whole / "weights.npz")
    resumed = np.load(broken / "weights.npz")
    assert len(expected.files) == len(resumed.files) > 0
    for name in expected.files:
        np.testing.assert_allclose(
            resumed[name], expected[name], rtol=1e-4, atol=1e-6
        )


if __name__ == "__main__":
    if keras.config.backend() != "tensorflow":
        # `set_random_seed` would import it, in as long as the training takes.
        import tests.data.without_tensorflow  # noqa: F401
    train(pathlib.Path(sys.argv[1]), kills="kill" in sys.argv[2:])
