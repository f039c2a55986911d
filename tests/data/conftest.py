"""The data set that these tests read, in both of TFDS's file formats."""

import pytest

from tests.data.on_disk import pictures
from tests.data.on_disk import write_cifar10


@pytest.fixture(scope="session")
def splits():
    """The images and labels that were written, by split."""
    return {"train": pictures(200, seed=1), "test": pictures(50, seed=2)}


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory, splits):
    """The `data_dir` of each file format."""
    folders = {}
    for file_format in ("tfrecord", "array_record"):
        folders[file_format] = tmp_path_factory.mktemp(file_format)
        write_cifar10(folders[file_format], file_format, **splits)
    return folders
