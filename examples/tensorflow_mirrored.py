"""
Title: Several devices, several machines, on TensorFlow
Description: Distil a robust teacher under a `tf.distribute` strategy.
Accelerator: None or GPU

## Introduction

Under a strategy every batch is divided between replicas, one on each device.
Each replica attacks its own images, and all take the same optimizer step. Two
things change in the code. Models are created and compiled in the strategy's
scope, and trained outside of it. Every batch must have images for all replicas.

    pip install -e ".[examples,tensorflow]"
    python examples/tensorflow_mirrored.py [--epochs N] [--backup FOLDER]

The example runs on all GPUs of the machine, or on two halves of the CPU. For
several machines, run it on each, with `TF_CONFIG` set to the addresses of all
and the index of this one:

    TF_CONFIG='{"cluster": {"worker": ["host-a:2222", "host-b:2222"]},
                "task": {"type": "worker", "index": 0}}'

The data and the networks are those of `quickstart.py`, beside this file.
"""

import argparse
import os
import pathlib

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import quickstart
import tensorflow as tf

import keras_adaad

"""
## The devices

A strategy must be created before anything computes.
"""


def make_strategy():
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    (cpu,) = tf.config.list_physical_devices("CPU")
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


"""
## Training

`batch_size` is that of all replicas together, so optimizer and schedule are the
same as on one device. The last, smaller batch is left out, because it might
have no image for some replica.

BatchNorm normalises over a replica's own part of the batch. After each step the
moving statistics become their mean over the replicas. For statistics of the
whole batch, use `keras.layers.BatchNormalization(synchronized=True)`.

When a process dies, the others miss its heartbeat within some ten seconds, and
stop with an error. With `--backup`, start the script again in all processes: it
resumes after the last completed epoch. All processes must be able to read the
folder; only the first one writes. To start anew, delete it.
"""

BATCH_SIZE = 64


def compile_for(model, data, epochs):
    model.compile(quickstart.make_optimizer(epochs, data), metrics=["accuracy"])


def fit(model, data, epochs, backup):
    x_train, _, y_train, _ = data
    whole = len(x_train) // BATCH_SIZE * BATCH_SIZE
    callbacks = []
    if backup is not None:
        callbacks = [
            keras.callbacks.BackupAndRestore(
                # Kept, so that a resumed run finds its teacher.
                backup / model.name,
                delete_checkpoint=False,
            )
        ]
    model.fit(
        x_train[:whole],
        y_train[:whole],
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=2,
        callbacks=callbacks,
    )


"""
## The result

`perturb` and `evaluate_robustness` run on one device. They return the same
inside and outside of the strategy's scope, in every process.
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=30, type=int)
    parser.add_argument("--backup", type=pathlib.Path)
    arguments = parser.parse_args()
    strategy = make_strategy()
    print(f"{strategy.num_replicas_in_sync} replicas. In this process:")
    print(*strategy.extended.worker_devices, sep="\n")

    # The same in all processes, which must agree on the order of the images.
    keras.utils.set_random_seed(0)
    data = quickstart.load_data()
    with strategy.scope():
        teacher = quickstart.make_network(32, "teacher")
        trainer = keras_adaad.PGDAT(teacher, quickstart.make_attack())
        compile_for(trainer, data, arguments.epochs)
    fit(trainer, data, arguments.epochs, arguments.backup)
    with strategy.scope():
        student = quickstart.make_network(8, "student")
        distiller = keras_adaad.AdaAD(
            teacher, student, quickstart.make_attack()
        )
        compile_for(distiller, data, arguments.epochs)
    fit(distiller, data, arguments.epochs, arguments.backup)

    for network in (teacher, student):
        quickstart.print_accuracy(network.name, network, data)


if __name__ == "__main__":
    main()
