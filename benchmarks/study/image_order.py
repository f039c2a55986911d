"""The order of CIFAR-10's images in the published runs.

The file of these runs had the images in another order than the original. Which
images are labelled, held out and attacked depends on it. So the images of any
file are put into that order, and the published teacher never saw the held-out
images.
"""

import hashlib
import pathlib

import numpy as np

FILE = pathlib.Path(__file__).parents[1] / "published/cifar10/image_order.npz"


def in_published_order(split, images, labels, path=FILE):
    """Returns a split in the published order; other images as they are.

    Args:
        split: "train" or "test".
        images: Array of uint8, of shape `(num_images, 32, 32, 3)`.
        labels: Array of shape `(num_images,)`.
        path: The file with the orders.
    """
    keys = keys_of(images, labels)
    by_key = np.argsort(keys)
    with np.load(path) as file:
        if file[f"{split}_digest"] != digest_of(keys[by_key]):
            return images, labels
        rows = by_key[file[f"{split}_order"]]
    return images[rows], labels[rows]


def write(path, **splits):
    """Writes the orders of splits, which are pairs of images and labels."""
    arrays = {}
    for split, (images, labels) in splits.items():
        keys = keys_of(images, labels)
        by_key = np.argsort(keys)
        order = np.empty(len(keys), "uint16")
        order[by_key] = np.arange(len(keys))
        arrays[f"{split}_order"] = order
        arrays[f"{split}_digest"] = digest_of(keys[by_key])
    np.savez_compressed(path, **arrays)


def keys_of(images, labels):
    """Returns a number for each image that depends on nothing else."""
    keys = [
        hashlib.sha256(image.tobytes() + bytes([label])).digest()[:8]
        for image, label in zip(images, labels, strict=True)
    ]
    return np.frombuffer(b"".join(keys), "<u8")


def digest_of(keys):
    return np.str_(hashlib.sha256(keys.tobytes()).hexdigest())
