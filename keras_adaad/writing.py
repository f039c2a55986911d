"""Writes files completely or not at all, and saves models in one process."""

import contextlib
import os
import pathlib
import tempfile

import keras


def write_atomically(path, write):
    """Writes a file or folder that appears at `path` only once it is complete.

    `write` is called with a path of the same name in a temporary folder next to
    `path`. What it wrote is then moved. If it fails or the process is killed,
    the previous `path` is kept. A file does not replace a folder.
    """
    path = pathlib.Path(path)
    with tempfile.TemporaryDirectory(
        prefix=".part-", dir=path.parent
    ) as folder:
        part = pathlib.Path(folder, path.name)
        write(part)
        if path.is_dir() and not part.is_dir():
            raise ValueError(
                "Argument `path` must name a file. Choose another path, or "
                "move the folder. "
                f"Received: path={str(path)!r}, which is a folder"
            )
        if path.is_dir():
            # A folder can only replace an empty folder.
            os.replace(path, pathlib.Path(folder, f"old.{path.name}"))
        os.replace(part, path)


@contextlib.contextmanager
def saving_in_one_process():
    """Suspends the `keras.distribution` while one process saves.

    Keras creates variables when it saves. Under a distribution they would be
    laid out over all processes, but the other processes do not take part.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)
