"""What a trainer is and does, as plain numbers.

`make.py` writes these numbers, and the test compares with them.
"""

import pathlib

import keras
import numpy as np

import keras_adaad
from keras_adaad import attacks

FOLDER = pathlib.Path(__file__).parent
EPSILON = 0.15


def data():
    """Returns 32 digits of three classes: images in [0, 1], and labels."""
    with np.load(FOLDER / "data.npz") as arrays:
        return (arrays["x"] / 16.0).astype("float32"), arrays["y"]


def state_of(trainer):
    """Returns the logits, and what a resumed training goes on from."""
    numpy = keras.ops.convert_to_numpy
    return {
        "logits": _logits(trainer),
        "iterations": int(numpy(trainer.optimizer.iterations)),
        "learning_rate": float(numpy(trainer.optimizer.learning_rate)),
        "random_state": numpy(trainer.seed_generator.state).tolist(),
        "states": {
            name: float(numpy(getattr(trainer, name)))
            for name in ("epoch", "epochs", *type(trainer).states)
        },
    }


def step_of(trainer):
    """Takes one more step. Returns its logs, and what the student then says.

    The logits depend on the momentum, the weight decay and the statistics.
    """
    x, y = data()
    logs = trainer.train_on_batch(x[16:24], y[16:24], return_dict=True)
    return {
        "logs": {name: float(value) for name, value in logs.items()},
        "logits": _logits(trainer),
    }


def evaluate(model, state_path=None):
    """Attacks a network as the evaluation that was killed did."""
    x, y = data()
    threat = {"epsilon": EPSILON}
    return keras_adaad.evaluate_robustness(
        model,
        x,
        y,
        [
            attacks.PGD(**threat, steps=2, step_size=0.06, restarts=2),
            attacks.Square(**threat, queries=20, seed=4),
            attacks.CW(**threat, steps=2, step_size=0.075),
            "fgsm",
        ],
        **threat,
        seed=3,
        individual=True,
        reliability_checks=False,
        curve=[0.1, 0.12],
        state_path=state_path,
        class_names=["zero", "one", "two"],
        verbose=0,
    )


def _logits(trainer):
    x, _ = data()
    logits = trainer.student(keras.ops.convert_to_tensor(x[:4]))
    return keras.ops.convert_to_numpy(logits).tolist()
