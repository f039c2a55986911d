"""A real TFDS data set on disk: CIFAR-10 in all but its pictures."""

import contextlib
import io

import numpy as np
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits
from tensorflow_datasets.image_classification import cifar


def pictures(number, seed):
    """Digits, enlarged to 32x32 and coloured: (uint8 images, labels)."""
    digits = load_digits()
    random = np.random.default_rng(seed)
    rows = random.permutation(len(digits.images))[:number]
    large = np.kron(digits.images[rows] / 16.0, np.ones((1, 4, 4)))
    front, back = random.uniform(0.1, 1.0, (2, number, 1, 1, 3))
    images = back + large[..., None] * (front - back)
    return (255 * images).astype("uint8"), digits.target[rows].astype("int32")


def write_cifar10(directory, file_format, **splits):
    """Writes `cifar10` where `tfds.load` reads it without a download.

    Args:
        directory: Its `data_dir`.
        file_format: `"tfrecord"` or `"array_record"`.
        **splits: Pairs `(images, labels)` by the name of the split.
    """

    class Cifar10(cifar.Cifar10, skip_registration=True):
        name = "cifar10"

        def _split_generators(self, dl_manager):
            return {name: self._examples(*splits[name]) for name in splits}

        def _examples(self, images, labels):
            pairs = zip(images, labels, strict=True)
            for place, (image, label) in enumerate(pairs):
                yield (
                    place,
                    {"id": f"{place:05}", "image": image, "label": int(label)},
                )

    write(Cifar10(data_dir=directory, file_format=file_format))


def write(builder):
    """Writes what a TFDS builder generates, in silence."""
    offline = tfds.download.DownloadConfig(try_download_gcs=False)
    silence = io.StringIO()
    with (
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
    ):
        builder.download_and_prepare(download_config=offline)
