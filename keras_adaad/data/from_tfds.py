"""TensorFlow Datasets, with TensorFlow or without."""

from typing import Any

import numpy as np

from keras_adaad._typing import DataSet
from keras_adaad._typing import PathLike
from keras_adaad.data.from_arrays import load_arrays
from keras_adaad.data.pipelines import has_tensorflow


def load_tfds(
    name: str,
    split: str,
    batch_size: int = 128,
    training: bool = False,
    *,
    data_dir: PathLike | None = None,
    download: bool = False,
    **options: Any,
) -> DataSet:
    """Loads an image classification data set of TensorFlow Datasets.

    The images are decoded once and held in memory as uint8 (CIFAR: 180 MB).

    TFDS needs TensorFlow to prepare a data set, and to read the TFRecord files
    that it writes by default. `array_record` files are read without TensorFlow.
    Write them where TensorFlow is installed, with
    `tensorflow_datasets.builder("cifar10", file_format="array_record",
    data_dir=...).download_and_prepare()`.

    Args:
        name: Name of the data set, e.g. `"cifar10"`.
        split: Split in the syntax of TFDS: `"train"`, `"test"`, or a slice.
            `"train[:-1000]"` and `"train[-1000:]"` hold out 1000 images.
        data_dir: Folder of the TFDS data sets. Defaults to that of TFDS.
        download: Whether to download and prepare the data set if it is not in
            `data_dir`. Defaults to `False`.
        batch_size, training, **options: Arguments of
            `keras_adaad.data.load_arrays`.

    Returns:
        A finite data set, as of `keras_adaad.data.load_arrays`.

    Raises:
        ValueError: If the data set is not there, has no such split, does not
            consist of labelled images of one size, or an option is out of
            range.

    Example:

    ```python
    train = keras_adaad.data.load_tfds(
        "cifar10", "train[:-1000]", training=True, download=True
    )
    held_out = keras_adaad.data.load_tfds("cifar10", "train[-1000:]")
    ```
    """
    builder = _prepared_builder(name, data_dir, download)
    images, labels = _read(builder, split)
    return load_arrays(images, labels, batch_size, training, **options)


def _prepared_builder(name, data_dir, download):
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    if builder.is_prepared():
        return builder
    if not download:
        raise ValueError(
            f"The data set {name!r} is not in `data_dir`. Pass "
            "`download=True` to download and prepare it, or the `data_dir` "
            f"where it is. Received: data_dir={data_dir!r}, "
            f"looked in {str(builder.data_dir)!r}"
        )
    if not has_tensorflow():
        raise _needs_tensorflow(builder, "not prepared")
    builder.download_and_prepare()
    return builder


def _read(builder, split):
    """Returns the images and labels of a split, in the order of the files."""
    image, label = _features(builder)
    examples = _examples(builder, split)
    features = builder.info.features
    images = np.empty((len(examples), *features[image].shape), "uint8")
    labels = np.empty(len(examples), "int32")
    for place, example in enumerate(examples):
        images[place] = example[image]
        labels[place] = example[label]
    return images, labels


def _features(builder):
    """Returns the names of the image and of the label."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    names: tuple[str, ...] = builder.info.supervised_keys or ()
    kinds = [type(features.get(name)) for name in names]
    if kinds != [tfds.features.Image, tfds.features.ClassLabel]:
        raise ValueError(
            "Argument `name` must be a data set of images and their classes. "
            f"Received: name={builder.name!r} with {features}"
        )
    shape, dtype = features[names[0]].shape, features[names[0]].np_dtype
    if None in shape or dtype != np.uint8:
        raise ValueError(
            "Argument `name` must be a data set of uint8 images of one size. "
            f"Received: name={builder.name!r} with {dtype} images of "
            f"shape {shape}"
        )
    return names


def _examples(builder, split):
    """Returns the decoded examples of a split, as NumPy."""
    import tensorflow_datasets as tfds

    if builder.info.file_format.value == "array_record":
        return builder.as_data_source(split)
    if not has_tensorflow():
        stored = f"stored as {builder.info.file_format.value}"
        raise _needs_tensorflow(builder, stored)
    from keras_adaad.data.tf_data import import_tensorflow

    import_tensorflow()
    # One file after another: the order in which `as_data_source` reads.
    one_by_one = tfds.ReadConfig(interleave_cycle_length=1)
    return tfds.as_numpy(
        builder.as_dataset(
            split=split, shuffle_files=False, read_config=one_by_one
        )
    )


def _needs_tensorflow(builder, state):
    return ValueError(
        f"The data set {builder.name!r} in `data_dir` is {state}, for which "
        "TFDS needs TensorFlow, and it is not installed. Install it; or, "
        "where it is installed, once write the files that are read without, "
        f"with `tensorflow_datasets.builder({builder.name!r}, "
        "file_format='array_record', data_dir=...).download_and_prepare()`. "
        f"Received: data_dir with {str(builder.data_dir)!r}"
    )
