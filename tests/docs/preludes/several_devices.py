"""A teacher in a file, a student, digits, and TensorFlow's one strategy."""

import keras
from sklearn.datasets import load_digits

from tests import networks

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., None]
labels = digits.target.astype("int32")
x_train, y_train = images[:300], labels[:300]
x_test, y_test = images[-50:], labels[-50:]

networks.teacher_net().save("teacher.keras")


def make_student():
    return networks.student_net()


if keras.config.backend() == "tensorflow":
    import tensorflow as tf

    # Not by collectives: the keys of these are those of the suite's strategy.
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
