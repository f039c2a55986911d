"""Short runs of `keras-adaad distil` on digits."""

import numpy as np
from click.testing import CliRunner

import keras_adaad_cli


def run(*arguments):
    arguments = [str(argument) for argument in arguments]
    return CliRunner().invoke(keras_adaad_cli.main, ["distil", *arguments])


def change(name, **arrays):
    """Writes the arrays of the run, with others among them."""
    with np.load("digits.npz") as file:
        arrays = {**file, **arrays}
    np.savez(name, **arrays)
    return name
