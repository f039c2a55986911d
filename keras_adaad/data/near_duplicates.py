"""Training images that nearly duplicate test images."""

import numpy as np

from keras_adaad import checks
from keras_adaad._typing import ArrayLike
from keras_adaad.data.arguments import check_images
from keras_adaad.data.batches import to_unit_range

# Pixels on a side of the small images that are compared.
SIDE = 8
# Below this contrast, a standard deviation of pixels in [0, 1], two plain
# images would be compared by their noise.
FAINT = 0.02
IMAGES_PER_BLOCK = 500
# More than rounding takes from the similarity of two copies.
ROUNDING = 1e-6


def near_duplicates(
    x: ArrayLike, x_test: ArrayLike, threshold: float = 0.94
) -> np.ndarray:
    """Finds images that nearly duplicate test images.

    The test accuracy of a student that was trained on test images is too high.
    Generated images can include test images: a generative model repeats images
    that it has memorised, and its own training data may include test images.

    Each image is scaled to 8x8 pixels, and the average and the gradient of each
    channel are subtracted. The similarity of two images is the correlation of
    these small images. So brightness and contrast have no effect, and two
    images of clear sky are not alike. Each test image is compared as it is, and
    mirrored.

    The default threshold comes from CIFAR-10, by
    `python -m benchmarks.near_duplicates` on altered copies of 2,000 test
    images. The check finds at least 98.7 % of the copies that are mirrored,
    compressed (JPEG of quality 30), brighter, noisy, or of less contrast. It
    finds 97 % of those that are cropped by 2 of 32 pixels and enlarged, 87 % of
    those that are shifted by one pixel, and 76 % of those that are turned grey.
    It misses larger changes: it finds 23 % of those that are shifted by one
    pixel in both directions, 19 % of those that are cropped by 4 pixels, and
    almost none of those that are shifted by two. It misses plain images, with
    hardly any contrast, even if they are identical. It does not find the object
    of a test image in another scene.

    Of the 50,000 training images of CIFAR-10, 310 are found. In a sample that
    we inspected, nearly all show the photograph of the test image, or another
    version of it. A threshold of 0.92 finds 173 more, of which about half are
    mistakes. The default is for colour photographs: many different drawings or
    digits are alike, such as 291 of 900 digits of scikit-learn. Comparing a
    million images with 10,000 takes minutes.

    Args:
        x: Images to check, of shape `(num_images, height, width, channels)`:
            uint8, or float in [0, 1].
        x_test: Test images, with the same number of channels. Their size may
            differ.
        threshold: Smallest similarity of a near-duplicate, in (0, 1]. Defaults
            to `0.94`.

    Returns:
        An integer array of shape `(num_found, 2)`: for each image that was
        found, its index in `x`, and the index of the test image that is most
        similar. The most similar pair comes first.

    Raises:
        ValueError: If the images have different channels, or an argument is out
            of range.

    Example:

    ```python
    pairs = keras_adaad.data.near_duplicates(generated, x_test)
    generated = np.delete(generated, pairs[:, 0], axis=0)
    ```

    Reference:
        - [Barz and Denzler, 2020](https://arxiv.org/abs/1902.00423), who found
          duplicates of 3.3 % of CIFAR-10's test images in its training set, by
          looking at pairs that a network finds similar.
    """
    images, tests = check_images("x", x), check_images("x_test", x_test)
    if images.shape[-1] != tests.shape[-1]:
        raise ValueError(
            "Arguments `x` and `x_test` must have the same channels. "
            f"Received: x.shape={images.shape}, x_test.shape={tests.shape}"
        )
    threshold = checks.check_number(
        "threshold", threshold, maximum=1.0, open_minimum=True
    )
    nearest, similarities = most_similar(images, tests)
    # Rounding must not make an image differ from itself.
    similarities = np.minimum(similarities + ROUNDING, 1.0)
    rows = np.argsort(-similarities, kind="stable")
    rows = rows[: np.count_nonzero(similarities >= threshold)]
    return np.stack([rows, nearest[rows]], axis=1)


def most_similar(images, others):
    """Returns the index of the most similar other image, and how similar."""
    patterns = np.concatenate([_patterns(x) for x in _blocks_of(others)])
    # A mirrored image has a mirrored pattern.
    patterns = np.concatenate([patterns, patterns[:, :, ::-1]])
    patterns = patterns.reshape(len(patterns), -1).T
    nearest, similarities = [], []
    for block in _blocks_of(images):
        products = _patterns(block).reshape(len(block), -1) @ patterns
        nearest.append(products.argmax(axis=1) % len(others))
        similarities.append(products.max(axis=1))
    return np.concatenate(nearest), np.concatenate(similarities)


def _blocks_of(images):
    for start in range(0, len(images), IMAGES_PER_BLOCK):
        yield to_unit_range(images[start : start + IMAGES_PER_BLOCK])


def _patterns(images):
    """Returns what is compared, `(num_images, SIDE, SIDE, channels)`.

    The dot product of two patterns is the similarity of the images.
    """
    num_images, height, width, channels = images.shape
    rows = images.reshape(num_images, height, width * channels)
    rows = (_averages(height) @ rows).reshape(-1, width, channels)
    small = _averages(width) @ rows
    small = small.reshape(num_images, SIDE, SIDE, channels)
    small = small - small.mean(axis=(1, 2), keepdims=True)
    slope = np.linspace(-1.0, 1.0, SIDE, dtype="float32")
    slope /= np.sqrt(SIDE * np.sum(slope**2))
    for gradient in (slope[:, None, None], slope[None, :, None]):
        share = np.sum(small * gradient, axis=(1, 2), keepdims=True)
        small = small - share * gradient
    lengths = np.sqrt(np.sum(small**2, axis=(1, 2, 3), keepdims=True))
    return small / np.maximum(lengths, FAINT * np.sqrt(small[0].size))


def _averages(size):
    """Returns the matrix that averages `size` pixels to `SIDE`."""
    edges = np.linspace(0.0, size, SIDE + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(
        edges[:-1, None], pixels
    )
    return (np.maximum(overlap, 0.0) * SIDE / size).astype("float32")
