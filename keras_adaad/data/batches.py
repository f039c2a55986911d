"""Batches of images that depend on seed, epoch and position only."""

import functools
from typing import NamedTuple

import numpy as np

from keras_adaad.data.cutmix import DRAWS
from keras_adaad.data.cutmix import cut_and_mix


class Batches:
    """Batches of images as a pure function of (seed, epoch, position).

    All random numbers of an epoch are drawn at once, in NumPy, from the seed
    and the number of the epoch. So both pipelines yield the same batches, and a
    resumed run sees the same batches as an uninterrupted one.

    `images` are uint8, or float32 in [0, 1]. `labels` are int32, or `None`.
    Given `num_classes`, batches have a probability of each class instead.
    Without an `augmentation` the images are unchanged, in their original order.
    """

    def __init__(
        self,
        images,
        labels,
        batch_size,
        augmentation,
        drop_remainder=False,
        num_classes=None,
    ):
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.drop_remainder = drop_remainder
        self.num_classes = num_classes

    def __len__(self):
        full, rest = divmod(self._num_own(), self.batch_size)
        return full + (rest > 0 and not self.drop_remainder)

    def last_size(self):
        """Returns the number of images in the last batch."""
        rest = self._num_own() % self.batch_size
        filled = self.augmentation and self.augmentation.extra_per_batch
        if rest == 0 or self.drop_remainder or filled:
            return self.batch_size
        return rest

    def _num_own(self):
        extra = self.augmentation.num_extra if self.augmentation else 0
        return len(self.images) - extra

    def batch(self, epoch, index):
        """Returns batch `index` of an epoch, `(images, labels)` or images."""
        if self.augmentation is None:
            start = index * self.batch_size
            stop = min(start + self.batch_size, len(self.images))
            # No slice: a batch must not be a view of the user's array.
            rows = np.arange(start, stop)
            images, labels = self.images[rows], self._labels(rows)
        else:
            plan = plan_epoch(
                self.augmentation,
                len(self.images),
                len(self),
                self.batch_size,
                int(epoch),
            )
            last = index == len(self) - 1
            size = self.last_size() if last else self.batch_size
            rows = plan.rows[index][:size]
            images = crop_and_flip(
                self.images[rows],
                plan.corners[index][:size],
                plan.flips[index][:size],
                self.augmentation.padding,
            )
            labels = self._labels(rows)
            if self.augmentation.cutmix:
                draws = plan.cuts[index][:size]
                images, labels = cut_and_mix(images, labels, draws)
        images = to_unit_range(images)
        return images if labels is None else (images, labels)

    def _labels(self, rows):
        if self.labels is None or self.num_classes is None:
            return None if self.labels is None else self.labels[rows]
        classes = np.arange(self.num_classes)
        return np.equal(self.labels[rows, None], classes).astype("float32")


class Augmentation(NamedTuple):
    """Settings of shuffling and augmentation. The extra images are the last."""

    seed: int
    padding: int
    flip: bool
    num_extra: int = 0
    extra_per_batch: int = 0
    cutmix: bool = False


class Plan(NamedTuple):
    """The draws of an epoch, one per position in each full batch."""

    rows: np.ndarray
    corners: np.ndarray
    flips: np.ndarray
    cuts: np.ndarray | None


@functools.lru_cache(maxsize=2)
def plan_epoch(augmentation, num_images, num_batches, batch_size, epoch):
    """Draws which image goes where, and how it is cropped and flipped."""
    random = np.random.default_rng([augmentation.seed, epoch])
    num_own = num_images - augmentation.num_extra
    per_batch = augmentation.extra_per_batch
    own = draw(random, num_own, num_batches * (batch_size - per_batch))
    rows = own.reshape(num_batches, -1)
    if per_batch:
        extra = draw(random, augmentation.num_extra, num_batches * per_batch)
        extra = num_own + extra.reshape(num_batches, -1)
        # Mixed within the batch, because devices split it.
        rows = random.permuted(np.concatenate([rows, extra], 1), axis=1)
    places = (num_batches, batch_size)
    corners = random.integers(2 * augmentation.padding + 1, size=(*places, 2))
    flips = random.integers(1 + augmentation.flip, size=places)
    # Last, so that the other draws are the same with and without it.
    cuts = random.random((*places, DRAWS)) if augmentation.cutmix else None
    return Plan(rows, corners, flips.astype(bool), cuts)


def draw(random, size, count):
    """Draws `count` of `range(size)`, all once before any is repeated."""
    rounds = [random.permutation(size) for _ in range(-(-count // size))]
    return np.concatenate(rounds)[:count]


def crop_and_flip(images, corners, flips, padding):
    """Crops zero-padded images at the given corners, and flips some.

    A corner is the top and left of a crop in the padded image.
    """
    height, width = images.shape[1:3]
    sides = (padding, padding)
    padded = np.pad(images, ((0, 0), sides, sides, (0, 0)))
    cropped = np.empty_like(images)
    for place, (top, left) in enumerate(corners):
        crop = padded[place, top : top + height, left : left + width]
        cropped[place] = crop[:, ::-1] if flips[place] else crop
    return cropped


def to_unit_range(images):
    """Returns uint8 images as float32 in [0, 1], and float32 ones as given."""
    if images.dtype == np.uint8:
        return np.divide(images, 255, dtype="float32")
    return images
