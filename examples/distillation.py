"""A run of the CIFAR and Tiny-ImageNet examples, from flags to report.

It is the run of `keras-adaad distil`, with the data of the example. See
`keras_adaad/command_line/distil.py` for what it does, and for the files that it
writes.
"""

import click

import keras_adaad_cli
from keras_adaad.command_line import distil
from keras_adaad.command_line.experiment import Experiment as Experiment


def run(experiment):
    """Distils, selects a student, attacks it, and reports."""

    @click.command()
    @keras_adaad_cli.TRAINING
    def command(**flags):
        distil.run(experiment, **flags)

    command()
