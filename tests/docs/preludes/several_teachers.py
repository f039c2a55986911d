"""Two teachers that know some digits, a clean one, a student, and digits."""

from tests.docs.small import network
from tests.docs.small import split_digits
from tests.docs.small import train

((x_train, y_train),) = split_digits(128)
teachers = [network("first"), network("second")]
clean_teacher, student = network("clean_teacher"), network("student")
for model in (*teachers, clean_teacher):
    train(model, x_train, y_train, epochs=3)
