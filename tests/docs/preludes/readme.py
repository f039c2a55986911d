"""Two networks and a few digits."""

from tests.docs.small import teacher_and_copy

teacher, student, parts = teacher_and_copy(32, 16, 16)
(x_train, y_train), (x_val, y_val), (x_test, y_test) = parts
