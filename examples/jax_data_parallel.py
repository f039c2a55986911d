"""
Title: Two devices, one training, on JAX
Description: Distil a robust teacher with AdaAD on all the devices there are.
Accelerator: None, GPU or TPU

## Introduction

With `keras.distribution` every batch is divided between the devices, and each
has its own copy of the networks. To JAX it is still one batch: the updates, the
BatchNorm statistics, the random starts and the logs are those of one device.

    pip install -e ".[examples,jax]"
    python examples/jax_data_parallel.py [--epochs N]

The example uses all GPUs or TPUs. On a machine without them, it divides the CPU
into two devices, which shows how it works but is not faster. The data and the
networks are those of `quickstart.py`, beside this file.
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "jax"
# Two devices of the CPU, set before JAX starts; GPUs and TPUs are not affected.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import keras
import quickstart

"""
## The devices

The distribution comes first, because variables that are created under it are on
all devices. For several machines, run the same script on each. Call
`keras.distribution.initialize()` first, and pass each machine its part of the
images, or a `tf.data.Dataset`, which Keras divides.

A teacher that is too large for one device can itself be split. Its layout is
derived from its variables, and the teacher is then loaded again, in parts:

    mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"))
    layout = keras_adaad.distribution.wide_teacher_layout(mesh, teacher)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout)
    )
    teacher = keras.models.load_model("teacher.keras")
"""


def use_all_devices():
    devices = keras.distribution.list_devices()
    # A power of two, for the batches of 64 images.
    devices = devices[: 2 ** (len(devices).bit_length() - 1)]
    distribution = keras.distribution.DataParallel(devices=devices)
    keras.distribution.set_distribution(distribution)
    print(f"{len(devices)} devices: {', '.join(devices)}")
    return len(devices)


"""
## Training

Training works as on one device. The size of every batch must be divisible by
the number of devices, even of the last one, so the remaining images are
dropped.
"""


def whole_batches(data, devices):
    x_train, x_test, y_train, y_test = data
    images = len(x_train) // devices * devices
    return x_train[:images], x_test, y_train[:images], y_test


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=30, type=int)
    arguments = parser.parse_args()

    devices = use_all_devices()
    keras.utils.set_random_seed(0)
    data = whole_batches(quickstart.load_data(), devices)
    networks = {"teacher": quickstart.train_teacher(data, arguments.epochs)}
    networks["student"] = quickstart.distill_with_adaad(
        networks["teacher"], data, arguments.epochs
    )

    for name, network in networks.items():
        quickstart.print_accuracy(name, network, data)


if __name__ == "__main__":
    main()
