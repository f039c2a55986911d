"""What the preludes of the pages are made of: small networks, few digits."""

import keras
from sklearn.datasets import load_digits

from tests.networks import dense_net


def split_digits(*sizes, channels=1):
    """Returns pairs `(x, y)` of so many digits each, none in two of them."""
    data = load_digits()
    images = (data.images / 16.0).astype("float32")[..., None]
    images = images.repeat(channels, axis=-1)
    labels = data.target.astype("int32")
    parts, start = [], 0
    for size in sizes:
        parts.append((images[start : start + size], labels[start:][:size]))
        start += size
    return parts


def network(name, channels=1):
    """Returns a network of one convolution with BatchNorm, to logits."""
    inputs = keras.Input((8, 8, channels))
    x = keras.layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    return keras.Model(inputs, outputs, name=name)


def train(model, x, y, epochs=20):
    """Trains a network on clean images, for what needs right answers."""
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def teacher_and_copy(*sizes):
    """Returns a teacher of faint digits, a student, and so many digits.

    Any attack of 8/255 erases such digits. The student is the teacher's copy,
    so it has nothing to learn, and is fooled on each image by the first attack
    of an evaluation: AutoAttack has little left to do.
    """
    parts = [(0.05 * x, y) for x, y in split_digits(256, *sizes)]
    teacher = train(dense_net("teacher"), *parts[0])
    student = keras.models.clone_model(teacher)
    student.set_weights(teacher.get_weights())
    return teacher, student, parts[1:]
