"""Errors that name an argument of the command line."""

import contextlib
import os
import re
import textwrap

import click

# What messages of the library call the options.
OPTIONS = {
    "`download=True`": "--download",
    "`key`": "--key",
    "`data_dir`": "--data-dir",
    "`extra`": "--extra",
    "`extra_fraction`": "--extra-fraction",
    "Resize them first.": "Pass --size.",
}
# How a command is given the file of a published model.
CHECKPOINTS = {
    "convert": "--checkpoint",
    "distil": "--teacher-checkpoint",
    "teachers": "ID=FILE",
}


def bad_input(argument, error):
    """Returns the error of the command for an error of Python."""
    text = str(error) or type(error).__name__
    for python, option in {**OPTIONS, **_checkpoint()}.items():
        text = text.replace(python, option)
    # Keras writes in bold, and some messages hold a whole configuration.
    text = textwrap.shorten(re.sub(r"\x1b\[\d*m", "", text), 500)
    if text.startswith("Argument --"):
        # Another option is wrong.
        return click.UsageError(text.removeprefix("Argument "))
    return click.UsageError(f"{argument}: {text}")


def _checkpoint():
    """Returns what the running command calls `checkpoint`."""
    context = click.get_current_context(silent=True)
    command = str(context.info_name) if context else "distil"
    # The scripts of the examples have the options of `distil`.
    option = CHECKPOINTS.get(command, CHECKPOINTS["distil"])
    return {
        "`checkpoint=` its path": f"its path as {option}",
        "`checkpoint`": option,
    }


def as_given(option, value):
    """Returns an option with its value, if it has one."""
    return option if value is None else f"{option} {value}"


@contextlib.contextmanager
def naming(argument):
    """Turns any error of a block, which reads a file, into bad input."""
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        raise bad_input(argument, error) from error


def check_folder(option, path, *endings):
    """Raises unless a file can be written there: hours later is too late.

    Without one of the endings it might replace a file of another kind.
    """
    if path and endings and path.suffix not in endings:
        raise click.UsageError(
            f"{option} {path}: the name must end in {' or '.join(endings)}."
        )
    folder = path and path.absolute().parent
    if folder and not folder.is_dir():
        raise click.UsageError(
            f"{option} {path}: there is no folder {folder}. Make it first."
        )
    if folder and not os.access(folder, os.W_OK):
        raise click.UsageError(
            f"{option} {path}: the folder {folder} can't be written to. Give "
            "another."
        )
