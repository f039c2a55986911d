"""A teacher that knows the digits, a student, and the digits."""

import torch  # noqa: F401, I001  First: TensorFlow's libraries clash with it.
import keras
from sklearn.datasets import load_digits

import keras_adaad
from tests import networks

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., None]
labels = digits.target.astype("int32")
x_train, y_train = images[:256], labels[:256]
x_test, y_test = images[-64:], labels[-64:]

teacher = networks.teacher_net()
trainer = keras_adaad.PGDAT(
    teacher, keras_adaad.attacks.PGD(epsilon=0.1, steps=2, seed=0)
)
trainer.compile(keras.optimizers.Adam(0.01))
trainer.fit(x_train, y_train, epochs=3, verbose=0)


def make_student():
    return networks.student_net()
