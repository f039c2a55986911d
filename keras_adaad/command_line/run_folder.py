"""The folder of a run of `keras-adaad distil`: its flags and its log."""

import csv
import json

import click

from keras_adaad.training.callback_checks import restore_complete_backup
from keras_adaad.writing import write_atomically


def check_same_run(arguments):
    """Refuses to resume a run that was started with other flags."""
    flags, path = of_run(arguments)
    # Without a backup nothing is resumed: the first epoch did not end.
    if not path.exists() or not (arguments.output / "backup").exists():
        return
    before = json.loads(path.read_text())
    other = [name for name in flags if before.get(name) != flags[name]]
    if other:
        raise click.UsageError(
            f"--output {arguments.output} is a run with other values of "
            f"{other}. Give another folder, or the flags of that run: see "
            "arguments.json."
        )


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
    backup = output / "backup" / "training_metadata.json"
    restore_complete_backup(backup.parent)
    if backup.exists():
        epoch = json.loads(backup.read_text())["epoch"]
    if not log.exists():
        return None
    # As bytes, because reading as text changes the line ends of a CSV file.
    lines = log.read_bytes().decode().splitlines(keepends=True)
    rows = list(csv.DictReader(lines))
    if not backup.exists() and len(rows) > 1:
        raise click.UsageError(
            f"--output {output}: it has a log.csv of {len(rows)} epochs, and "
            "no backup/ to resume from. Give another folder, or move the files."
        )
    rows = [row for row in rows if int(row["epoch"]) < epoch]
    kept = "".join(lines[: 1 + len(rows)])
    write_atomically(log, lambda path: path.write_bytes(kept.encode()))
    # Without labels to validate on, there are no accuracies.
    accuracies = [row.get("val_robust_accuracy") for row in rows]
    return max((float(a) for a in accuracies if a), default=None)
