"""TFDS's array_record, in a process that has no TensorFlow."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_adaad import data

BACKEND = keras.config.backend()
WITHOUT_TENSORFLOW = """
import sys
import tests.data.without_tensorflow
import numpy as np
from keras_adaad import data

array_record, tfrecord = sys.argv[1:]
train = data.load_tfds("cifar10", "train", 50, True, data_dir=array_record)
print(type(train).__name__, *(images.sum() for images, _ in train))
for name, options in (("cifar10", {}), ("cifar100", {"download": True})):
    try:
        data.load_tfds(name, "train", data_dir=tfrecord, **options)
    except ValueError as error:
        print(error)
assert "tensorflow" not in sys.modules
"""


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow is the backend")
def test_without_tensorflow(cifar10):
    folders = [str(cifar10[name]) for name in ("array_record", "tfrecord")]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *folders],
        cwd=pathlib.Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    batches, stored, missing = result.stdout.splitlines()
    name, *sums = batches.split()
    assert name == "BatchesPyDataset"
    train = data.load_tfds("cifar10", "train", 50, True, data_dir=folders[1])
    expected = [np.sum(images) for images, _ in train]
    np.testing.assert_allclose(np.array(sums, float), expected, rtol=1e-5)
    assert "is stored as tfrecord, for which TFDS needs" in stored
    assert "is not prepared, for which TFDS needs" in missing
