"""The folder of a run of `keras-adaad distil`: its flags and its log."""

import csv
import hashlib
import json
import pathlib

import click
import keras

from keras_adaad.command_line.errors import naming
from keras_adaad.data.image_files import find_images
from keras_adaad.training.callback_checks import restore_complete_backup
from keras_adaad.writing import write_atomically

# The flags that may name a file or a folder.
GIVEN = ("data", "extra", "student", "teacher", "teacher_checkpoint")
# The file of a complete backup.
METADATA = "training_metadata.json"
# The files of students that a run writes.
STUDENTS = ("best.keras", "last.keras", "student.keras")


def check_same_run(arguments, recipe):
    """Refuses to resume a run that was started with other flags or files."""
    flags, path = of_run(arguments)
    backup = arguments.output / "backup"
    if not (backup / METADATA).exists():
        _check_nothing_left(arguments.output)
    # Without a backup nothing is resumed: the first epoch did not end.
    if not path.exists() or not backup.exists():
        _check_not_written(arguments)
        return
    before = json.loads(path.read_text())
    # Earlier versions had no such options, and kept no digests.
    before = {"padding": recipe.padding, "flip": True, **before}
    known = before.get("sha256", {})
    digests = flags.pop("sha256")
    other = [name for name in flags if before.get(name) != flags[name]]
    if other:
        raise click.UsageError(
            f"--output {arguments.output} is a run with other values of "
            f"{other}. Give another folder, or the flags of that run: see "
            "arguments.json."
        )
    for name, digest in digests.items():
        if known.get(name, digest) != digest:
            raise click.UsageError(
                f"{_option(name)} {flags[name]}: its contents have changed "
                f"since the run in --output {arguments.output} began. Give "
                "another --output, or what that run began with."
            )


def _check_not_written(arguments):
    """Raises if the run would write over a file that it is given."""
    for name, path in _given(arguments):
        there = path.resolve().parent == arguments.output.resolve()
        if there and path.name in STUDENTS:
            raise click.UsageError(
                f"{_option(name)} {path}: the run writes a student of this "
                f"name into --output {arguments.output}. Give another folder."
            )


def _check_nothing_left(output):
    """Raises if a run that starts afresh would meet the files of another."""
    left = [*output.glob("attacks_*.npz"), *output.glob("report.json")]
    names = sorted(path.name for path in left)
    if (rows := len(_rows(output / "log.csv"))) > 1:
        names.append(f"a log.csv of {rows} epochs")
    if names:
        raise click.UsageError(
            f"--output {output}: it has {', '.join(names)}, and no backup/ to "
            "resume from. Give another folder, or move the files."
        )


def _rows(log):
    """Returns the epochs of a log."""
    return list(csv.DictReader(_lines(log)))


def _lines(log):
    # As bytes, because reading as text changes the line ends of a CSV file.
    text = log.read_bytes().decode() if log.exists() else ""
    return text.splitlines(keepends=True)


def _option(name):
    return "--" + name.replace("_", "-")


def digests_of(arguments):
    """Returns the SHA-256 of each file or folder that is given, by flag."""
    digests = {}
    for name, path in _given(arguments):
        with naming(f"{_option(name)} {path}"):
            if path.is_file():
                digests[name] = _digest_of_file(path)
            elif path.is_dir():
                digests[name] = _digest_of_folder(path)
    return digests


def _given(arguments):
    """Yields the flags that may name a file or a folder, and the paths."""
    for name in GIVEN:
        if value := getattr(arguments, name, None):
            yield name, pathlib.Path(value)


def _digest_of_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_folder(folder):
    """Images count by name and size: reading thousands takes minutes."""
    found = []
    for split in ("train", "test"):
        for path in find_images(folder / split):
            name = path.relative_to(folder).as_posix()
            found.append((name, path.stat().st_size))
        others = [
            *folder.glob(f"[xy]_{split}.npy"),
            *folder.glob(f"{split}/{split}_annotations.txt"),
        ]
        found += [(path.name, _digest_of_file(path)) for path in sorted(others)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def of_run(arguments):
    """Returns the flags that a run keeps, and the file that holds them."""
    free = ("output", "data_dir", "download", "autoattack_images")
    flags = {k: v for k, v in vars(arguments).items() if k not in free}
    return flags, arguments.output / "arguments.json"


def write_flags(arguments):
    """Writes the flags that a later call must share."""
    flags, path = of_run(arguments)
    text = json.dumps(flags, indent=1)
    write_atomically(path, lambda part: part.write_text(text))


def resume_log(output):
    """Drops the log's rows of epochs that will be run again.

    Returns:
        The best validation accuracy of the remaining rows, or `None`.
        `save_best_only` does not remember it.
    """
    log, epoch = output / "log.csv", 0
    backup = output / "backup" / METADATA
    restore_complete_backup(backup.parent)
    if backup.exists():
        epoch = json.loads(backup.read_text())["epoch"]
    if not log.exists():
        return None
    rows = [row for row in _rows(log) if int(row["epoch"]) < epoch]
    kept = "".join(_lines(log)[: 1 + len(rows)])
    write_atomically(log, lambda path: path.write_bytes(kept.encode()))
    # Without labels to validate on, there are no accuracies.
    accuracies = [row.get("val_robust_accuracy") for row in rows]
    return max((float(a) for a in accuracies if a), default=None)


class Backup(keras.callbacks.BackupAndRestore):
    """Never deletes the backup, so that a finished run does not train again."""

    def __init__(self, arguments):
        super().__init__(
            arguments.output / "backup",
            double_checkpoint=True,
            delete_checkpoint=False,
        )
        self.arguments = arguments

    def on_train_begin(self, logs=None):
        try:
            super().on_train_begin(logs)
        except ValueError as error:
            raise click.UsageError(
                f"--output {self.arguments.output}: its backup does not fit "
                "the teacher and the student. Give those of that run, or "
                "another --output."
            ) from error
        # Not before: the digests of other networks are not those of the run.
        write_flags(self.arguments)
