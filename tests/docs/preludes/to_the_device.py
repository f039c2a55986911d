"""What the page takes for granted: a student trained on adversarial digits."""

import keras
from sklearn.datasets import load_digits

import keras_adaad
from tests import networks

_digits = load_digits()
_x = (_digits.images / 16.0).astype("float32")[..., None]
x_train, y_train = _x[:1300], _digits.target[:1300]
x_test, y_test = _x[1300:1364], _digits.target[1300:1364]
epsilon = 0.1

student = networks.student_net("student")
_trainer = keras_adaad.PGDAT(
    student, keras_adaad.attacks.PGD(epsilon=epsilon, steps=3, seed=0)
)
_trainer.compile(keras.optimizers.Adam(0.01))
_trainer.fit(x_train, y_train, batch_size=64, epochs=3, verbose=0)
