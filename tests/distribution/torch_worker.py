"""What `test_torch.py` trains, alone and as each process under `torchrun`."""

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


def load():
    data = load_digits()
    x = (data.images / 16.0).astype("float32")[..., None]
    return x, data.target.astype("int32")


def seeded(network, seed=0):
    """Gives a network weights that follow from the seed.

    `keras.utils.set_random_seed` would import TensorFlow in every process.
    """
    generator = np.random.default_rng(seed)
    for w in network.weights:
        if len(w.shape) > 1:
            scale = (2.0 / np.prod(w.shape[:-1])) ** 0.5
            w.assign(scale * generator.standard_normal(w.shape))
    return network


def fit(trainer, optimizer, processes, images=64, step=32, **options):
    """Trains; `step` is the number of images that all see in a step."""
    x, y = load()
    weights = np.linspace(0.5, 1.5, images, dtype="float32")
    trainer.compile(optimizer, metrics=["accuracy"])
    options = {"shuffle": False, "sample_weight": weights, **options}
    # 75 images: one process has a batch more than the other.
    history = trainer.fit(
        x[:images],
        y[:images],
        batch_size=step // processes,
        validation_data=(x[-75:], y[-75:]),
        validation_batch_size=37,
        verbose=2,
        **options,
    ).history
    evaluated = trainer.evaluate(x[-75:], y[-75:], return_dict=True, verbose=0)
    return {
        **{f"weight {i}": w for i, w in enumerate(trainer.get_weights())},
        **{f"state {v.name}": float(v) for v in trainer._states},
        **{f"log {name}": np.array(v) for name, v in history.items()},
        **{f"evaluated {name}": v for name, v in evaluated.items()},
    }


def attack(start=None):
    return PGD(epsilon=0.1, steps=3, start=start, seed=0)


def plain(processes, seed=0):
    distiller = keras_adaad.AdaAD(
        seeded(networks.dense_net(), seed + 1),
        seeded(networks.dense_net(), seed),
        attack(),
        alpha=0.8,
        evaluation_attack=attack(),
    )
    return fit(distiller, keras.optimizers.SGD(0.1), processes, images=32)


def perturbed(processes, seed=0):
    trainer = keras_adaad.PGDAT(
        seeded(networks.dense_net(), seed),
        attack(),
        weight_perturbation=0.1,
        evaluation_attack=None,
    )
    return fit(trainer, keras.optimizers.SGD(0.1), processes, images=32)


def scaled(processes, seed=0):
    """Loss scaling, gradient accumulation, a frozen layer, three views."""
    student = seeded(networks.dense_net(), seed)
    student.layers[-1].trainable = False
    trainer = keras_adaad.PGDAT(
        *(student, attack()),
        evaluation_attack=None,
        forward_order=("clean", "adversarial", "clean"),
    )
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
        initial_scale=64.0,
    )
    return fit(trainer, optimizer, processes, images=128)


def two_optimizers(processes, seed=0):
    """A network that learns from the second epoch on."""
    trainer = keras_adaad.CIARD(
        seeded(networks.dense_net(), seed + 1),
        seeded(networks.dense_net(), seed),
        attack(),
        clean_teacher=seeded(networks.dense_net(), seed + 2),
        evaluation_attack=None,
        # What follows depends on the images of a process.
        push=0.0,
        temperature_rate=0.0,
        teacher_start=0.5,
    )
    trainer.published_teacher_optimizer = lambda: keras.optimizers.SGD(0.1)
    optimizer = keras.optimizers.SGD(0.1)
    return fit(trainer, optimizer, processes, images=32, epochs=2)


def digits(processes, seed=0):
    """BatchNorm, random starts, and a number of images that is odd."""
    search = PGD(epsilon=0.05, steps=3, start="uniform", seed=seed)
    trainer = keras_adaad.PGDAT(seeded(networks.teacher_net(), seed), search)
    return fit(
        trainer,
        keras.optimizers.Adam(0.02),
        processes,
        images=1301,
        step=64,
        epochs=3,
        shuffle=True,
    )


def states(processes, seed=0):
    distiller = keras_adaad.MTARD(
        seeded(networks.teacher_net(), seed + 1),
        seeded(networks.student_net(), seed),
        attack("uniform"),
        clean_teacher=networks.teacher_net(),
        weight_rate=0.5,
    )
    return fit(distiller, keras.optimizers.SGD(0.01), processes)


COMPARED = (plain, perturbed, scaled, two_optimizers, digits, states)


class Kill(keras.callbacks.Callback):
    """Kills its process in the middle of the third epoch."""

    def __init__(self, note):
        super().__init__()
        self.note = note

    def on_train_batch_end(self, batch, logs=None):
        if float(self.model.epoch) == 2 and batch == 1:
            self.note.write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)


def resumable(folder, *callbacks):
    """Five epochs with every kind of file."""
    folder.mkdir(exist_ok=True)
    x, y = load()
    distiller = keras_adaad.AdaAD(
        seeded(networks.teacher_net(), 1),
        seeded(networks.student_net()),
        attack("uniform"),
    )
    distiller.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    train = keras_adaad.data.load_arrays(
        x[:64], y[:64], 8, training=True, padding=1, pipeline="py_dataset"
    )
    distiller.fit(
        train,
        validation_data=(x[-75:], y[-75:]),
        epochs=5,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras_adaad.data.SetEpoch(train),
            keras_adaad.callbacks.StudentCheckpoint(folder / "student.keras"),
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
            keras.callbacks.BackupAndRestore(folder / "backup"),
            *callbacks,
        ],
    )
    return distiller.student.get_weights()


def main(folder, task):
    rank = keras_adaad.distribution.initialize()

    def save(name, *arrays, **named):
        np.savez(folder / f"{name}-{rank}.npz", *arrays, **named)

    if task == "resume":
        return save("resumed", *resumable(folder / "killed"))
    for function in COMPARED:
        # The processes start apart: rank 0's weights must become all's.
        save(function.__name__, **function(processes=2, seed=rank))
    save("whole", *resumable(folder / "whole"))
    resumable(folder / "killed", *[Kill(folder / "killed.txt")] * rank)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
