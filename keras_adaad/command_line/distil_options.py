"""The options of `keras-adaad distil`, checked before anything is read."""

import contextlib
import pathlib
import tempfile
import types

import click

from keras_adaad import methods
from keras_adaad.command_line.data_checks import check_extra
from keras_adaad.command_line.errors import naming
from keras_adaad.command_line.networks import check_student
from keras_adaad.command_line.networks import check_teacher
from keras_adaad.command_line.run_folder import digests_of

# Options whose default is the value of the recipe.
OF_RECIPE = (
    *("teacher", "student", "epochs", "batch_size", "padding", "epsilon"),
)


def complete(recipe, flags):
    """Returns the flags, with the recipe's values where they have none."""
    arguments = types.SimpleNamespace(**flags)
    for name in OF_RECIPE:
        if flags[name] is None:
            setattr(arguments, name, getattr(recipe, name))
    if arguments.teacher is None:
        raise click.UsageError(
            "--teacher is missing, and the recipe names none. Give the id of "
            "a RobustBench model, or a .keras file."
        )
    if arguments.teacher_checkpoint and arguments.teacher.endswith(".keras"):
        raise click.UsageError(
            f"--teacher-checkpoint {arguments.teacher_checkpoint} is for a "
            f"model of RobustBench, and --teacher {arguments.teacher} is a "
            "file. Give one of them."
        )
    if arguments.extra_fraction is None:
        arguments.extra_fraction = 0.7
    elif arguments.extra is None:
        raise click.UsageError(
            f"--extra-fraction {arguments.extra_fraction} is the share of a "
            "batch that is from --extra, and --extra is missing. Give both."
        )
    elif not 0.0 <= arguments.extra_fraction < 1.0:
        raise click.UsageError(
            f"--extra-fraction {arguments.extra_fraction} must be in [0, 1)."
        )
    if arguments.hold_out % arguments.devices:
        raise click.UsageError(
            f"--hold-out {arguments.hold_out} must be a multiple of --devices "
            f"{arguments.devices}, which share each batch."
        )
    if not arguments.student.endswith(".keras"):
        arguments.student = arguments.student.lower()
    if arguments.output is None:
        name = f"{recipe.dataset}_{recipe.name.lower()}"
        arguments.output = pathlib.Path("results", name)
    check(recipe, arguments)
    arguments.sha256 = digests_of(arguments)
    return arguments


def check(recipe, arguments):
    """Raises if a value can't work, as far as a quick look can tell."""
    with naming(f"--teacher {arguments.teacher}"):
        check_teacher(
            arguments.teacher,
            recipe.dataset,
            arguments.teacher_checkpoint,
            arguments.download,
        )
    with naming(f"--student {arguments.student}"):
        check_student(arguments.student)
    if arguments.extra:
        with naming(f"--extra {arguments.extra}"):
            check_extra(arguments.extra, getattr(methods, recipe.method))
    check_output(arguments.output)


def check_output(output):
    """Raises unless a folder can be made and written to; leaves none."""
    made = []
    try:
        made = [p for p in (output, *output.parents) if not p.exists()]
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise click.UsageError(
            f"--output {output}: {error.strerror}. Give a folder that can be "
            "made, or written to."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
