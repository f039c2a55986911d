"""
Title: A KerasHub image classifier as a robust student
Description: Distil a robust teacher into a KerasHub task with AdaAD.
Accelerator: None

## Introduction

[KerasHub](https://keras.io/keras_hub/) has image classifiers of many families.
Each is a *task*: a network together with the preprocessing of its images. This
example makes such a task robust: it trains a robust *teacher* on real
handwritten digits, distils it into the task with AdaAD, measures how robust the
task is, saves it and loads it again with KerasHub.

    pip install -e ".[hub,examples,tensorflow]"
    python examples/keras_hub_student.py [--output FOLDER] [--autoattack]

Set `KERAS_BACKEND` to "tensorflow", "jax" or "torch"; the code is the same. The
weights are random, so nothing is downloaded. `--preset resnet_18_imagenet`
starts from pretrained weights: any preset of a KerasHub ResNet, or a folder
written by `save_to_preset`.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_adaad

IMAGE_SHAPE = (32, 32, 3)
NUM_CLASSES = 10
# Pixels lie in [0, 1]; no pixel may move by more than this.
EPSILON = 0.1

"""
## The data

scikit-learn's digits, enlarged to the size and the colours of CIFAR-10. As in
image files, pixels are integers from 0 to 255.
"""


def load_data(limit):
    digits = load_digits()
    images = digits.images.repeat(4, axis=1).repeat(4, axis=2)
    images = np.round(images / 16 * 255).astype("uint8")
    images = images[..., np.newaxis].repeat(3, axis=-1)
    return train_test_split(
        images[:limit],
        digits.target[:limit],
        test_size=0.25,
        random_state=0,
        stratify=digits.target[:limit],
    )


"""
## The student

A KerasHub preset normalises its images in the preprocessor, which runs in
`fit`, `evaluate` and `predict`, but not when the task is called like a
function: `task(x)` takes images that are already normalised. Without a preset
we build a small ResNet in the same way. KerasHub's classifiers return logits by
default, as attack and loss need.
"""


def make_task(preset=None):
    if preset is not None:
        task = keras_hub.models.ImageClassifier.from_preset(
            preset, num_classes=NUM_CLASSES, image_shape=IMAGE_SHAPE
        )
        # Replaces the 224x224 that the preset resizes to.
        task.preprocessor.image_converter.image_size = IMAGE_SHAPE[:2]
        return task
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=IMAGE_SHAPE,
    )
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=IMAGE_SHAPE[:2], scale=3 * [1 / 127.5], offset=3 * [-1.0]
    )
    return keras_hub.models.ResNetImageClassifier(
        backbone,
        NUM_CLASSES,
        keras_hub.models.ResNetImageClassifierPreprocessor(converter),
        name="resnet",
    )


"""
An attack differentiates through everything from its input on, and its epsilon
is in the units of that input. So the student is the task with the same
normalisation as a layer in front. It takes images in [0, 1], where 8/255 means
the same as in the papers. (Resizing stays outside: the attack changes the
pixels that the network sees.)

The student is not a copy of the task: both share their weights, so training one
trains the other.

A task's constructor compiles it, with Adam and cross-entropy, for its own `fit`
and `evaluate`. This does not affect the distiller, which is compiled itself and
does not use the task's optimizer and loss.
"""


def make_student(task):
    converter = task.preprocessor.image_converter
    scale = np.broadcast_to(converter.scale or 1.0, 3)
    offset = np.broadcast_to(converter.offset or 0.0, 3)
    # 255 x * scale + offset = (x - mean) / std
    std = 1 / (255 * scale)
    mean = -offset * std
    return keras_adaad.models.with_normalization(
        task, mean.tolist(), std.tolist()
    )


"""
## The teacher

The teacher is a small network, trained with PGD adversarial training. In
practice, take one that is known to be robust; see `keras_adaad.zoo`.
"""


def make_teacher():
    inputs = keras.Input(IMAGE_SHAPE)
    x = inputs
    for filters in (32, 64, 64):
        x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
        x = layers.ReLU()(x)
    outputs = layers.Dense(NUM_CLASSES)(layers.Flatten()(x))
    return keras.Model(inputs, outputs, name="teacher")


"""
## Training

`PGDAT` trains the teacher, `AdaAD` distils it: two `keras.Model`s with the
usual `compile` and `fit`.
"""


def train(trainer, x, y, epochs):
    steps = epochs * -(-len(x) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(4e-3, steps)
    trainer.compile(keras.optimizers.Adam(schedule), metrics=["accuracy"])
    method, network = type(trainer).__name__, trainer.student.name
    print(f"\n{method} of {network}, with {keras.config.backend()}:")
    verbose = 1 if sys.stdout.isatty() else 2
    trainer.fit(x, y, batch_size=64, epochs=epochs, verbose=verbose)


"""
## The report

How accurate is the student under attack, is the number reliable, and how does
the student compare with the teacher?
"""


def evaluate(student, teacher, x, y, autoattack):
    attacks = ["fgsm", "pgd-20-sat"] + ["autoattack"] * autoattack
    report = keras_adaad.evaluate_robustness(
        student, x, y, attacks, EPSILON, verbose=0
    )
    teacher_report = keras_adaad.evaluate_robustness(
        teacher,
        x,
        y,
        attacks,
        EPSILON,
        curve=False,
        reliability_checks=False,
        verbose=0,
    )
    print(f"\n{report}\n\n{report.compare(teacher_report)}\n")
    return report


"""
## Saving

There are two ways, and both keep the trained weights: the student as a `.keras`
file, from images in [0, 1] to logits, and the task as a preset for KerasHub,
including the preprocessing. Import `keras_hub` before loading the file. Keras
then warns that it does not compile the task inside, which only the task's own
`fit` would need.
"""


def save_and_reload(student, task, images, folder):
    student.save(folder / "student.keras")
    task.save_to_preset(str(folder / "preset"))

    logits = student.predict(images / 255.0, verbose=0)
    reloaded = keras.saving.load_model(folder / "student.keras")
    np.testing.assert_allclose(
        reloaded.predict(images / 255.0, verbose=0), logits, 1e-4, 1e-4
    )
    print(f"{folder / 'student.keras'}: predicts the same after loading.")

    reloaded = keras_hub.models.ImageClassifier.from_preset(
        str(folder / "preset")
    )
    # Unnormalised images, because `predict` runs the preprocessor.
    np.testing.assert_allclose(
        reloaded.predict(images, verbose=0), logits, 1e-4, 1e-4
    )
    print(f"{folder / 'preset'}: predicts the same after loading.")


"""
## The run

The same attack, ten steps of PGD, trains the teacher and distils it.
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="results/hub", type=pathlib.Path)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--limit", type=int, help="number of images to use")
    parser.add_argument("--preset", help="a KerasHub ResNet preset")
    parser.add_argument("--autoattack", action="store_true")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    train_images, test_images, y_train, y_test = load_data(arguments.limit)
    x_train = train_images.astype("float32") / 255.0
    x_test = test_images.astype("float32") / 255.0

    task = make_task(arguments.preset)
    student = make_student(task)
    teacher = make_teacher()
    attack = keras_adaad.attacks.PGD(
        epsilon=EPSILON, step_size=EPSILON / 4, steps=10, seed=0
    )
    pgdat = keras_adaad.PGDAT(teacher, attack)
    train(pgdat, x_train, y_train, arguments.epochs)
    adaad = keras_adaad.AdaAD(teacher, student, attack)
    train(adaad, x_train, y_train, arguments.epochs)

    report = evaluate(student, teacher, x_test, y_test, arguments.autoattack)
    arguments.output.mkdir(parents=True, exist_ok=True)
    report.save(arguments.output / "robustness.json")
    save_and_reload(student, task, test_images, arguments.output)


if __name__ == "__main__":
    main()
