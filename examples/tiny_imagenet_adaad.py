"""
Title: AdaAD on Tiny-ImageNet
Description: Distil a robust teacher into a PreActResNet-18, on 64x64 images.
Accelerator: GPU

## Introduction

Tiny-ImageNet has 100,000 training images of 200 classes. Download and unpack it
from http://cs231n.stanford.edu/tiny-imagenet-200.zip, then:

    pip install -e ".[data,examples,tensorflow]"
    python examples/tiny_imagenet_adaad.py \
        --data-dir tiny-imagenet-200 --teacher teacher.keras

The test split of Tiny-ImageNet has no public labels, so its validation split
serves as the test set, as is usual. The best epoch is selected on images held
out from training. `--help` lists the flags. The same command resumes a killed
run. Set `KERAS_BACKEND` to "tensorflow", "jax" or "torch".

### The teacher

RobustBench has no teacher for Tiny-ImageNet. The code of AdaAD reads the data
set, but has no teacher either. So you need your own teacher, a `.keras` file of
a model from images in [0, 1] to 200 logits. Train one, here at a constant
learning rate (AdaAD's baseline drops it at epochs 100 and 105):

    teacher = keras_adaad.models.PreActResNet18((64, 64, 3), 200)
    trainer = keras_adaad.PGDAT(teacher)
    trainer.compile(
        keras_adaad.optimizers.CoupledSGD(0.1, weight_decay=5e-4),
        metrics=["accuracy"],
    )
    trainer.fit(
        keras_adaad.data.load_folder(
            "tiny-imagenet-200", training=True, padding=8
        ),
        epochs=110,
        shuffle=False,
    )
    teacher.save("teacher.keras")

Or convert a PyTorch checkpoint with `keras_adaad.zoo.load_checkpoint`.

### What it costs

These are estimates, from the arithmetic and from the 21 TFLOP/s of the author's
code on an RTX 3090 (see `cifar10_adaad.py`). An image has four times the pixels
of CIFAR, and there are twice as many images. With a PreActResNet-18 as teacher
an epoch is 20 PFLOP: 16 minutes, and 2.2 days for 200 epochs, on an RTX 3090.
With a WideResNet-34-10 it is 123 PFLOP: 1.6 hours, and 14 days.
"""

import dataclasses
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import distillation

from keras_adaad import data
from keras_adaad import recipes

"""
## The data

The data set is the unpacked folder. Its images are decoded once and held in
memory, 1.2 GB.
"""


def load(arguments, split, **options):
    folder = arguments.data_dir or "tiny-imagenet-200"
    return data.load_folder(folder, split, **options)


"""
## The recipe

The recipe is that of CIFAR-100, with the student and the augmentation of SAAD:
a padding of 8.
"""

saad = recipes.get("SAAD", "tiny_imagenet")
recipe = dataclasses.replace(
    recipes.get("AdaAD", "cifar100"),
    dataset="tiny_imagenet",
    teacher=None,
    student=saad.student,
    padding=saad.padding,
    notes=("Not published: of CIFAR-100, with what SAAD has here.",),
)
experiment = distillation.Experiment(
    recipe,
    load=load,
    test="val",
)

if __name__ == "__main__":
    distillation.run(experiment)
