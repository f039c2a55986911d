"""Limits the memory that reading a file takes to a multiple of its size."""

import math

# As in NumPy.
MOST_AXES = 64


class Refused(Exception):
    """A file can't be read; the message continues "The file ... "."""


class Budget:
    """The bytes that reading a file of `size` bytes may take.

    A few hundred bytes can expand to gigabytes: compressed zeros, tensors of
    stride 0, references to references. Weights take at most a few times the
    size of their file.
    """

    def __init__(self, size):
        self.size = size
        self.limit = 2**24 + 16 * size
        self.left = self.limit

    def spend(self, amount):
        """Takes bytes from the budget, and raises `Refused` if it is spent."""
        self.left -= amount
        if self.left < 0:
            raise Refused(
                f"has {self.size} bytes and would take more than {self.limit} "
                "in memory: it is made to exhaust it, or stores far more "
                "zeros or repetitions than weights have. If you trust it, "
                "open it with the program that wrote it and save the weights "
                "alone, uncompressed."
            )

    def spend_array(self, shape, itemsize):
        """Spends the bytes of an array.

        A side of 0 counts as 1, because a network built from such shapes takes
        the memory of the other sides.
        """
        if len(shape) > MOST_AXES:
            raise Refused(f"has an array of more than {MOST_AXES} axes")
        self.spend(itemsize * math.prod(max(n, 1) for n in shape))
