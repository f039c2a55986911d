"""How much a file may unfold to, so that a small one cannot fill the memory."""

import math


class Refused(Exception):
    """What is wrong with a file, as the end of "The file ... "."""


class Budget:
    """The bytes that reading a file may take, a multiple of its size.

    A few hundred bytes can stand for gigabytes: compressed zeros, tensors of
    stride 0, references to references. What weights take is at most a few
    times the size of their file.

    Args:
        size: Size of the file in bytes.
    """

    def __init__(self, size):
        self.size = size
        self.limit = 2**24 + 16 * size
        self.left = self.limit

    def spend(self, amount):
        """Raises `Refused` once more is asked for than there is."""
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

        A side of 0 counts as 1: the network that is built from the shapes of
        its weights would take the memory.
        """
        self.spend(itemsize * math.prod(max(n, 1) for n in shape))
