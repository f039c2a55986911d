"""Two networks that know digits, and a distiller of them."""

import keras_adaad
from tests.docs.small import network
from tests.docs.small import split_digits
from tests.docs.small import train

EPSILON = 0.2
parts = split_digits(512, 32, 32)
(x_train, y_train), (x_val, y_val), (x_test, y_test) = parts
teacher = train(network("teacher"), x_train, y_train)
student = train(network("student"), x_train, y_train)
attack = keras_adaad.attacks.PGD(epsilon=EPSILON, steps=2)
distiller = keras_adaad.AdaAD(teacher, student, attack)
distiller.compile("sgd", metrics=["accuracy"])
epochs = 1
