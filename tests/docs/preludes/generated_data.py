"""A teacher, and digits as the generated images."""

import numpy as np

from tests.docs.small import network
from tests.docs.small import split_digits
from tests.docs.small import train as trained

parts = split_digits(64, 16, 64, channels=3)
(x_train, y_train), (x_test, y_test), (images, _) = parts
np.savez("generated.npz", image=np.concatenate([images, x_test[:2]]))
teacher = trained(network("teacher", channels=3), x_train, y_train, epochs=2)
student = network("student", channels=3)
epochs = 1
