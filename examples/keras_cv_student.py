"""
Title: A KerasCV image classifier as a robust student
Description: KerasCV's networks and augmentation, with AdaAD.
Accelerator: None

## Introduction

This example distils a robust *teacher* into a
[KerasCV](https://github.com/keras-team/keras-cv) classifier with AdaAD, on
images that KerasCV's layers augment in a `tf.data` pipeline.

    pip install -e ".[cv,examples,tensorflow]"
    python examples/keras_cv_student.py [--output FOLDER] [--autoattack]

Set `KERAS_BACKEND` to "tensorflow", "jax" or "torch"; the code is the same.
KerasCV imports TensorFlow on each of them.

KerasCV is frozen: its last commit is from November 2024, and its last version,
0.9.0, is older than today's Keras. KerasHub is its successor; for new projects
see `keras_hub_student.py`. The table shows what works with Keras 3.15 and
random weights:

| | TensorFlow | JAX | PyTorch |
| --- | --- | --- | --- |
| ResNet, DenseNet, VGG16, CSPDarkNet, MobileNetV3 | yes | yes | yes |
| EfficientNetV1, V2 and Lite, ViTDet | yes | yes | yes |
| MiT | no | yes | yes |
| ResNetV2 | no | no | no |
| `RandomContrast` | no | no | no |
| 20 other image layers, in `tf.data` | yes | yes | yes |

Those that do not work raise an error when the network or the layer is created.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_cv
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_adaad

IMAGE_SHAPE = (32, 32, 3)
NUM_CLASSES = 10
BATCH_SIZE = 64
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
Augmentation comes before the attack, outside of the networks. Inside
`Dataset.map` KerasCV's layers compute with TensorFlow on every backend, and
draw new random numbers for each image and epoch. They turn integers into floats
but keep their range, so the division by 255 comes last.

For photographs, add `RandomFlip("horizontal")` or `RandAugment((0, 255))`.
"""


def make_dataset(images, labels):
    augment = keras_cv.layers.Augmenter(
        [
            keras_cv.layers.RandomTranslation(
                (-0.06, 0.06), (-0.06, 0.06), fill_mode="constant"
            ),
            keras_cv.layers.RandomRotation(0.02, fill_mode="constant"),
        ]
    )
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    dataset = dataset.shuffle(len(images), seed=0)
    dataset = dataset.batch(BATCH_SIZE, drop_remainder=True)
    dataset = dataset.map(lambda x, y: (augment(x) / 255.0, y))
    return dataset.prefetch(tf.data.AUTOTUNE)


"""
## The networks

With `include_rescaling=True` a KerasCV network takes values from 0 to 255.
Epsilon is in the units of the student's input, so the student is the classifier
with a `Rescaling` in front: it takes images in [0, 1], where 8/255 means the
same as in the papers. Both share the same weights.

A KerasCV classifier ends in a softmax by default. Attack and loss need logits,
hence `activation=None`. (`keras_adaad.models.logits` removes the softmax of a
classifier that has one.)
"""


def make_classifier():
    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 64],
        stackwise_blocks=[1, 1],
        stackwise_strides=[1, 2],
        block_type="basic_block",
        include_rescaling=True,
        input_shape=IMAGE_SHAPE,
    )
    return keras_cv.models.ImageClassifier(
        backbone=backbone, num_classes=NUM_CLASSES, activation=None
    )


def make_student(classifier):
    inputs = keras.Input(IMAGE_SHAPE)
    outputs = classifier(layers.Rescaling(255.0)(inputs))
    return keras.Model(inputs, outputs, name="keras_cv_student")


"""
The teacher is a small network. In practice, take one that is known to be
robust; see `keras_adaad.zoo`.
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
usual `compile` and `fit`, which take the `tf.data` pipeline on every backend.
"""


def train(trainer, dataset, epochs):
    steps = epochs * len(dataset)
    schedule = keras.optimizers.schedules.CosineDecay(4e-3, steps)
    trainer.compile(keras.optimizers.Adam(schedule), metrics=["accuracy"])
    method, network = type(trainer).__name__, trainer.student.name
    print(f"\n{method} of {network}, with {keras.config.backend()}:")
    verbose = 1 if sys.stdout.isatty() else 2
    # The data set shuffles; `fit` would only warn that it cannot.
    trainer.fit(dataset, epochs=epochs, shuffle=False, verbose=verbose)


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

The saved student takes images in [0, 1], and the KerasCV classifier inside it,
saved separately, images from 0 to 255. Import `keras_cv` before loading either.
"""


def save_and_reload(student, classifier, images, folder):
    student.save(folder / "student.keras")
    classifier.save(folder / "classifier.keras")
    expected = student.predict(images / 255.0, verbose=0)
    for name, inputs in (("student", images / 255.0), ("classifier", images)):
        reloaded = keras.saving.load_model(folder / f"{name}.keras")
        logits = reloaded.predict(inputs, verbose=0)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        print(f"{folder / name}.keras: predicts the same after loading.")


"""
## The run

The same attack, ten steps of PGD, trains the teacher and distils it.
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="results/cv", type=pathlib.Path)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--limit", type=int, help="number of images to use")
    parser.add_argument("--autoattack", action="store_true")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    train_images, test_images, y_train, y_test = load_data(arguments.limit)
    dataset = make_dataset(train_images, y_train)
    x_test = test_images.astype("float32") / 255.0

    classifier = make_classifier()
    student = make_student(classifier)
    teacher = make_teacher()
    attack = keras_adaad.attacks.PGD(
        epsilon=EPSILON, step_size=EPSILON / 4, steps=10, seed=0
    )
    pgdat = keras_adaad.PGDAT(teacher, attack)
    train(pgdat, dataset, arguments.epochs)
    adaad = keras_adaad.AdaAD(teacher, student, attack)
    train(adaad, dataset, arguments.epochs)

    report = evaluate(student, teacher, x_test, y_test, arguments.autoattack)
    arguments.output.mkdir(parents=True, exist_ok=True)
    report.save(arguments.output / "robustness.json")
    save_and_reload(student, classifier, test_images, arguments.output)


if __name__ == "__main__":
    main()
