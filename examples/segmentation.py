"""
Title: A segmentation network under attack
Description: Attack a segmentation network with PGD, and train it adversarially.
Accelerator: None

## Introduction

A segmentation network predicts a class for each pixel, so its accuracy is the
share of correct pixels, not of correct images. `PGD` and `FGSM` attack such
networks: the loss of an image is the mean over its pixels.

    pip install -e ".[examples,tensorflow]"
    python examples/segmentation.py [--epochs N]

Set `KERAS_BACKEND` to "tensorflow", "jax" or "torch"; the code is the same.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_adaad

# Pixels lie in [0, 1]; no pixel may move by more than this.
EPSILON = 0.1
BACKGROUND = 10

"""
## The data

Each image has two of scikit-learn's handwritten digits, side by side. Their
pixels have no labels, so this example makes the label maps: a pixel with more
than a quarter of full ink has the class of its digit, and any other pixel is
background. These maps are easier than those of photographs, because the ink
alone separates a digit from the background. No training image contains a digit
of the test images.
"""


def make_images(digits, labels, num_images, generator):
    left, right = generator.integers(0, len(digits), (2, num_images))
    images = np.concatenate([digits[left], digits[right]], axis=2)
    classes = np.stack([labels[left], labels[right]], axis=1).repeat(8, axis=1)
    maps = np.where(images > 0.25, classes[:, np.newaxis], BACKGROUND)
    return images[..., np.newaxis], maps


def load_data():
    data = load_digits()
    digits = (data.images / 16.0).astype("float32")
    train, test, y_train, y_test = train_test_split(
        digits, data.target, test_size=0.25, random_state=0
    )
    generator = np.random.default_rng(0)
    return (
        make_images(train, y_train, 512, generator),
        make_images(test, y_test, 128, generator),
    )


"""
## The network

A small U-Net. It returns logits of shape `(batch_size, height, width, 11)`.
"""


def conv(filters, strides=1):
    return keras.Sequential(
        [
            layers.Conv2D(filters, 3, strides, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]
    )


def make_network(name):
    inputs = keras.Input((8, 16, 1))
    fine = conv(12)(inputs)
    coarse = conv(24)(conv(24, strides=2)(fine))
    x = layers.Concatenate()([fine, layers.UpSampling2D(2)(coarse)])
    outputs = layers.Conv2D(BACKGROUND + 1, 1)(conv(16)(x))
    return keras.Model(inputs, outputs, name=name)


"""
## Training, without an attack and with one

The methods of this library train classifiers. But an attack is a function from
images to images, and adversarial training needs nothing else: before each
epoch, PGD perturbs the training images. The attack is compiled only once,
although the weights change.

The second network starts from the weights of the first, and trains for a third
of its epochs on such images.
"""


def train(model, x, y, epochs, attack=None):
    steps = epochs * -(-len(x) // 32)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.01, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for _ in range(epochs):
        images = x if attack is None else attack(model, x, y, batch_size=128)
        model.fit(images, y, batch_size=32, verbose=0)
    return model


"""
## How many pixels are right?

`evaluate_robustness` needs one class per image, and refuses this network. So
this example computes the metrics: the accuracy over pixels, and the
intersection over union (IoU) of each class, averaged over the classes. Most
pixels are background, which is only one class of eleven in this average.

The attack maximises the mean cross-entropy over the pixels. Another attack may
change the class of more pixels, so both numbers are upper bounds.
"""


def measure(model, x, y):
    classes = model.predict(x, verbose=0).argmax(-1)
    ious = [
        np.sum((classes == k) & (y == k)) / np.sum((classes == k) | (y == k))
        for k in range(BACKGROUND + 1)
    ]
    return np.mean(classes == y), np.mean(ious)


def print_row(model, x, y):
    row = f"{model.name:14}"
    pgd = keras_adaad.attacks.PGD(epsilon=EPSILON, steps=20, seed=0)
    for images in (x, pgd(model, x, y)):
        accuracy, iou = measure(model, images, y)
        row += f"{accuracy:10.1%}{iou:8.1%}"
    print(row)


"""
## The run
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=12, type=int)
    epochs = parser.parse_args().epochs

    keras.utils.set_random_seed(0)
    (x_train, y_train), (x_test, y_test) = load_data()
    attack = keras_adaad.attacks.PGD(epsilon=EPSILON, steps=3, seed=0)
    plain = train(make_network("plain"), x_train, y_train, epochs)
    robust = make_network("adversarial")
    robust.set_weights(plain.get_weights())
    train(robust, x_train, y_train, -(-epochs // 3), attack)

    print(f"Accuracy and mean IoU, {len(x_test)} test images, {EPSILON=}:")
    print(f"{'':14}{'clean':>18}{'PGD-20':>18}")
    for model in (plain, robust):
        print_row(model, x_test, y_test)


if __name__ == "__main__":
    main()
