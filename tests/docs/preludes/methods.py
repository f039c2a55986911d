"""Three networks and a few digits."""

from tests.docs.small import network
from tests.docs.small import split_digits

teacher, student = network("teacher"), network("student")
clean_teacher = network("clean_teacher")
((x_train, y_train),) = split_digits(32)
epochs = 2
