"""Arrays in memory as a data set, and back."""

import numpy as np

from keras_adaad import checks
from keras_adaad._typing import ArrayLike
from keras_adaad._typing import DataSet
from keras_adaad._typing import PathLike
from keras_adaad.data.arguments import check_images
from keras_adaad.data.arguments import check_labels
from keras_adaad.data.batches import Augmentation
from keras_adaad.data.batches import Batches
from keras_adaad.data.extra import add_extra
from keras_adaad.data.extra import extra_per_batch
from keras_adaad.data.pipelines import make_dataset


def load_arrays(
    x: ArrayLike,
    y: ArrayLike | None = None,
    batch_size: int = 128,
    training: bool = False,
    *,
    padding: int = 4,
    flip: bool = True,
    seed: int = 0,
    drop_remainder: bool = False,
    extra: PathLike | None = None,
    extra_fraction: float = 0.7,
    cutmix: bool = False,
    num_classes: int | None = None,
    pipeline: str | None = None,
) -> DataSet:
    """Makes a data set for `fit` or `evaluate` from images in memory.

    In training the images are shuffled, and the papers' augmentation is
    applied: zero padding, a random crop to the original size, and a random
    horizontal flip. Order and augmentation depend only on the seed and the
    epoch, which a distiller's `fit` tells the data set. For another model, use
    `keras_adaad.data.SetEpoch`, and pass `shuffle=False` to its `fit`.

    `len` of the data set is the number of batches, `steps_per_epoch` of a
    learning rate schedule. The last batch holds the remaining images: with
    50,000 images in batches of 128, the 391st has 80, as in the papers' code.

    Args:
        x: Images, of shape `(num_images, height, width, channels)`: uint8, or
            float in [0, 1].
        y: Class indices, integers of shape `(num_images,)` or
            `(num_images, 1)`. Defaults to `None`: no labels.
        batch_size: Number of images per batch. Defaults to `128`.
        training: Whether to shuffle and augment. Defaults to `False`:
            unchanged images in their original order.
        padding: Number of zero pixels on each side before the random crop.
            Defaults to `4`, for 32x32 images.
        flip: Whether half of the images are flipped. Defaults to `True`.
        seed: Integer seed of order and augmentation. Defaults to `0`.
        drop_remainder: Whether to leave out a last training batch that is not
            full. Several devices may need it, if the batch size must be
            divisible by their number. It also saves JAX and XLA the compilation
            for a second batch size. Defaults to `False`.
        extra: Path of an `.npz` file of more training images, e.g. generated
            ones. It holds `image`, with the size and dtype of `x`, and
            optionally `label`. Without `label` the batches have no labels;
            AdaAD needs none. Defaults to `None`.
        extra_fraction: Fraction of each training batch that is from `extra`,
            in [0, 1). The number of batches per epoch stays the same, and all
            are full. Defaults to `0.7`.
        cutmix: Whether a box of each training image is from another image of
            the batch, after crop and flip (Yun et al. 2019). The box covers a
            share of the image that is uniform in [0, 1], before the border cuts
            it off. The published adversarial training with generated data draws
            one box for all images of a batch; here each image has its own.
            Labels are mixed by the share of pixels and need `num_classes`.
            Methods that look up a class (`ABSLD`, `CIARD`, `DGAD`, `DKL`,
            `SAAD`), and the metrics, take the one with the larger share.
            Defaults to `False`.
        num_classes: Number of classes, for labels that are a float32
            probability of each class, of shape `(batch_size, num_classes)`. The
            validation data needs it too. Defaults to `None`: class indices.
        pipeline: `"tf.data"` for a `tf.data.Dataset`, `"py_dataset"` for a
            `keras.utils.PyDataset`, which needs no TensorFlow. Both yield the
            same batches. Defaults to `None`: `tf.data` where TensorFlow is
            installed.

    Returns:
        A finite data set of batches `(images, labels)`, or of `images` without
        labels: float32 in [0, 1] of shape `(batch_size, height, width,
        channels)`, and int32 of shape `(batch_size,)`. With `num_classes`, the
        labels are float32 of shape `(batch_size, num_classes)`. The last batch
        may be smaller.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If images, labels and extra images do not fit together, or
            an argument is out of range.

    Example:

    ```python
    train = keras_adaad.data.load_arrays(x[1000:], y[1000:], training=True)
    held_out = keras_adaad.data.load_arrays(x[:1000], y[:1000])
    ```

    Reference:
        - [Yun et al., 2019](https://arxiv.org/abs/1905.04899), CutMix.
    """
    images = check_images("x", x)
    labels = None if y is None else check_labels("y", y, len(images))
    batch_size = checks.check_integer("batch_size", batch_size)
    padding = checks.check_integer("padding", padding, minimum=0)
    seed = checks.check_integer("seed", seed, minimum=0)
    if num_classes is not None:
        num_classes = checks.check_integer("num_classes", num_classes)
    if not isinstance(cutmix, (bool, np.bool_)):
        raise TypeError(
            "Argument `cutmix` must be True or False. "
            f"Received: cutmix={cutmix!r}"
        )
    augmentation = None
    if training:
        if drop_remainder and batch_size > len(images):
            raise ValueError(
                "Argument `batch_size` is larger than the data set, and "
                "`drop_remainder=True` leaves no batch. Make it smaller. "
                f"Received: batch_size={batch_size}, and {len(images)} images"
            )
        augmentation = Augmentation(
            seed, padding, bool(flip), cutmix=bool(cutmix)
        )
    elif cutmix:
        raise ValueError(
            "Argument `cutmix` is for training. Pass `training=True`, or no "
            f"`cutmix`. Received: cutmix={cutmix}, training={training}"
        )
    if extra is not None:
        if not training:
            raise ValueError(
                "Argument `extra` is for training. Pass `training=True`, or "
                f"no `extra`. Received: extra={extra!r}, training={training}"
            )
        images, labels, num_extra = add_extra(images, labels, extra)
        augmentation = augmentation._replace(  # type: ignore[union-attr]
            num_extra=num_extra,
            extra_per_batch=extra_per_batch(extra_fraction, batch_size),
        )
    if labels is not None:
        _check_classes(num_classes, labels, cutmix)
    batches = Batches(
        images,
        labels,
        batch_size,
        augmentation,
        drop_remainder=training and bool(drop_remainder),
        num_classes=num_classes,
    )
    return make_dataset(batches, pipeline)


def _check_classes(num_classes, labels, cutmix):
    if num_classes is None:
        if cutmix:
            raise ValueError(
                "Argument `cutmix` mixes labels, which class indices cannot "
                "express. Pass `num_classes` here and to the validation data, "
                "or, for a method that needs none, images without labels. "
                f"Received: cutmix={cutmix}, num_classes=None"
            )
    elif num_classes <= labels.max():
        raise ValueError(
            "Argument `num_classes` must be larger than each label. "
            f"Received: num_classes={num_classes}, and labels to {labels.max()}"
        )


def to_arrays(dataset: DataSet) -> tuple[np.ndarray, np.ndarray] | np.ndarray:
    """Returns a finite data set as arrays, e.g. for `evaluate_robustness`.

    Args:
        dataset: What `load_arrays`, `load_folder` or `load_tfds` returned.

    Returns:
        A tuple `(x, y)` of NumPy arrays, or `x` if there are no labels.

    Example:

    ```python
    test = keras_adaad.data.load_tfds("cifar10", "test")
    x_test, y_test = keras_adaad.data.to_arrays(test)
    ```
    """
    batches = list(dataset)
    if isinstance(batches[0], tuple):
        x, y = zip(*batches, strict=True)
        return np.concatenate(x), np.concatenate(y)
    return np.concatenate(batches)
