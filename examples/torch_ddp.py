"""
Title: Several processes on PyTorch
Description: Train a robust student with torchrun, on CPUs or GPUs.
Accelerator: None or GPU

## Introduction

`torchrun` starts one process per device, and each trains on its part of the
images. Gradients are averaged, so all have the same student after every step.
On a laptop, with two processes on the CPU:

    pip install -e ".[examples,torch]"
    torchrun --nproc-per-node 2 examples/torch_ddp.py [--epochs N]

On GPUs, use the same line with their number. `KERAS_TORCH_DEVICE=cpu` trains on
the CPU instead. `python examples/torch_ddp.py` runs in one process. The data
and the networks are those of `quickstart.py`, beside this file.
"""

import argparse
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import quickstart

import keras_adaad

"""
## Joining the others

Processes join before any model is created. From here on every process runs the
same code, and its `fit` takes its part of the arrays.
"""

RANK = keras_adaad.distribution.initialize()
PROCESSES = int(os.environ.get("WORLD_SIZE", 1))

"""
## Training

`batch_size` is per process: together the processes see 64 images in a step.
Callbacks that write run only in the process of rank 0. After a crash the same
command resumes after the last completed epoch. The backups are kept, so that a
finished teacher is not trained again. Delete them to start anew.
"""


def fit(model, name, data, epochs, folder):
    x_train, x_test, y_train, y_test = data
    model.compile(quickstart.make_optimizer(epochs, data), metrics=["accuracy"])
    model.fit(
        x_train,
        y_train,
        batch_size=64 // PROCESSES,
        epochs=epochs,
        validation_data=(x_test, y_test),
        verbose=2,
        callbacks=[
            keras_adaad.callbacks.StudentCheckpoint(folder / f"{name}.keras"),
            keras.callbacks.BackupAndRestore(
                folder / f"backup_{name}", delete_checkpoint=False
            ),
        ],
    )


"""
## The result

`evaluate` divides the images too, and returns the same in every process. Rank 0
does the work that is needed only once, such as a report.
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="results", type=pathlib.Path)
    parser.add_argument("--epochs", default=30, type=int)
    arguments = parser.parse_args()
    folder = arguments.output / "torch_ddp"
    folder.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    data = quickstart.load_data()
    teacher = quickstart.make_network(32, "teacher")
    trainer = keras_adaad.PGDAT(teacher, quickstart.make_attack())
    fit(trainer, "teacher", data, arguments.epochs, folder)
    student = quickstart.make_network(8, "student")
    distiller = keras_adaad.AdaAD(teacher, student, quickstart.make_attack())
    fit(distiller, "student", data, arguments.epochs, folder)

    _, x_test, _, y_test = data
    logs = distiller.evaluate(x_test, y_test, return_dict=True, verbose=0)
    accuracy = 100 * logs["robust_accuracy"]
    print(f"Process {RANK} of {PROCESSES}: robust accuracy {accuracy:.1f} %")
    if RANK == 0:
        quickstart.print_accuracy("student", student, data)


if __name__ == "__main__":
    main()
