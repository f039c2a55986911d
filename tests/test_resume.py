"""A run killed in epoch 3 of 5 ends where an uninterrupted one does."""

import signal
import subprocess
import sys

import numpy as np

SCRIPT = """
import os, signal, sys
import keras
import numpy as np
import keras_adaad
from sklearn.datasets import load_digits
from tests import networks

folder, kill = sys.argv[1], sys.argv[2] == "kill"
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

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        print("epoch", epoch + 1, flush=True)

    def on_train_batch_end(self, batch, logs=None):
        if kill and self.epoch == 3 and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_end(self, epoch, logs=None):
        self.epoch = epoch + 2

kill_callback = Kill()
kill_callback.epoch = 1
distiller.fit(
    x, y, batch_size=16, epochs=5, shuffle=False, verbose=0,
    callbacks=[
        keras.callbacks.BackupAndRestore(folder + "/backup"), kill_callback
    ],
)
np.savez(folder + "/weights.npz", *distiller.student.get_weights())
"""


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), *arguments],
        capture_output=True,
        text=True,
    )


def test_killed_run_resumes(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    result = run(whole, "run")
    assert result.returncode == 0, result.stderr
    assert run(broken, "kill").returncode == -signal.SIGKILL
    assert not (broken / "weights.npz").exists()
    result = run(broken, "run")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:3] == ["epoch 3", "epoch 4", "epoch 5"]
    expected = np.load(whole / "weights.npz")
    resumed = np.load(broken / "weights.npz")
    assert len(expected.files) == len(resumed.files) > 0
    for name in expected.files:
        np.testing.assert_allclose(
            resumed[name], expected[name], rtol=1e-4, atol=1e-6
        )
