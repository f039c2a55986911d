"""The group of commands, and what several of them share."""

import fractions
import importlib
import math
import os
import sys

import click


class Commands(click.Group):
    """Commands that report an error in one line, and return an exit code."""

    def main(self, *args, **options):
        options |= {"prog_name": "keras-adaad", "standalone_mode": False}
        try:
            code = super().main(*args, **options)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            where = context.command_path if context else "keras-adaad"
            message = " ".join(error.format_message().split())
            click.echo(f"{where}: {message}", err=True)
            code = error.exit_code
        except click.Abort:
            code = 130
        sys.exit(code)


class Number(click.ParamType):
    """A number from 0, also as a fraction: `8/255`."""

    name = "number"

    def convert(self, value, param, ctx):
        try:
            number = float(fractions.Fraction(value))
        except (ValueError, ZeroDivisionError, OverflowError):
            number = math.nan
        if not number >= 0.0:
            self.fail(f"{value!r} is not a number such as 8/255 or 0.03.")
        return number


def work(name):
    """Returns the module that does the work of a command."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return importlib.import_module(f"keras_adaad.command_line.{name}")
    except (ImportError, ValueError) as error:
        raise click.UsageError(
            f"{error}. Install a backend of Keras, such as `pip install "
            '"keras-adaad[tensorflow]"`, and name it in KERAS_BACKEND: '
            "tensorflow, jax or torch."
        ) from error


def options(*some):
    """Returns a decorator that adds options in the order of `--help`."""

    def add(command):
        for option in reversed(some):
            command = option(command)
        return command

    return add


EPSILON = click.option(
    "--epsilon",
    type=Number(),
    help="Radius of the ball, for images in [0, 1]. Default: 8/255 for linf.",
)
NORM = click.option(
    "--norm",
    type=click.Choice(["linf", "l2"]),
    default="linf",
    show_default=True,
)
FROM_TFDS = options(
    click.option(
        "--data-dir",
        help="Folder of the TFDS data sets. Default: that of TFDS.",
    ),
    click.option(
        "--download",
        is_flag=True,
        help="Fetch data sets and published models that are missing.",
    ),
)


@click.group(cls=Commands)
def main():
    """Robust students: evaluated, distilled, compared.

    Set KERAS_BACKEND to tensorflow, jax or torch. The exit code is 0, or 1 for
    a model below a threshold, or 2 for bad input.
    """
