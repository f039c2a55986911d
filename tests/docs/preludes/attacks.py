"""A network that is right on some digits."""

from tests.docs.small import network
from tests.docs.small import split_digits
from tests.docs.small import train

(x_train, y_train), (x_test, y_test) = split_digits(256, 16)
student = train(network("student"), x_train, y_train, epochs=5)
