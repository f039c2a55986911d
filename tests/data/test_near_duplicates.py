"""Altered copies of images are found, and other images are not."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from keras_adaad import data

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def crops():
    """Parts of two photographs, 32x32 pixels, that do not overlap."""
    parts = []
    for photograph in load_sample_images().images:
        for top in range(0, 384, 64):
            for left in range(0, 640, 64):
                part = photograph[top : top + 64, left : left + 64]
                parts.append(part.reshape(32, 2, 32, 2, 3).mean((1, 3)))
    return np.round(parts).astype("uint8")


ALTERATIONS = {
    "itself": lambda x: x,
    "mirrored": lambda x: x[:, :, ::-1],
    "float": lambda x: x.astype("float32") / 255,
    "brighter": lambda x: np.minimum(x + 20.0, 255).astype("uint8"),
    "fainter": lambda x: (60 + 0.6 * x).astype("uint8"),
    "larger": lambda x: x.repeat(2, axis=1).repeat(2, axis=2),
    "an odd size": lambda x: x[:, :31, :],
    "noisy": lambda x: np.clip(
        x + np.random.default_rng(0).normal(0.0, 8.0, x.shape), 0, 255
    ).astype("uint8"),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_copies_are_found(crops, name):
    test, others = crops[::2], crops[1::2]
    # Those of the clear sky in one photograph show hardly anything.
    test = test[test.std(axis=(1, 2, 3)) > 25]
    copies = ALTERATIONS[name](test[5:20])
    pairs = data.near_duplicates(copies, test)
    assert len(pairs) == 15
    np.testing.assert_array_equal(pairs[:, 1], pairs[:, 0] + 5)
    if name == "itself":
        both = np.concatenate([others[:10], copies])
        pairs = data.near_duplicates(both, test)
        assert set(pairs[:, 0]) == set(range(10, 25))


def test_similarity_is_the_correlation_without_planes():
    """With least squares, and averages written out."""
    random = np.random.default_rng(0)
    x, other = random.random((2, 16, 24, 2))
    y = 0.5 * x + 0.5 * other

    def rest(image):
        small = image.reshape(8, 2, 8, 3, 2).mean((1, 3)).reshape(64, 2)
        rows, columns = np.indices((8, 8)).reshape(2, 64)
        plane = np.stack([np.ones(64), rows, columns], axis=1)
        return (small - plane @ np.linalg.lstsq(plane, small)[0]).ravel()

    a, b = rest(x), rest(y)
    expected = a @ b / np.sqrt((a @ a) * (b @ b))
    assert expected > 0.5
    for threshold, found in ((expected - 1e-4, 1), (expected + 1e-4, 0)):
        assert len(data.near_duplicates([x], [y], threshold)) == found


def test_an_image_is_as_similar_to_itself_as_can_be():
    x = np.random.default_rng(0).random((200, 32, 32, 3))
    pairs = data.near_duplicates(x, x, threshold=1.0)
    assert sorted(pairs.tolist()) == [[row, row] for row in range(200)]


def test_the_most_similar_comes_first(crops):
    x = crops[crops.std(axis=(1, 2, 3)) > 25][:1]
    noisy = ALTERATIONS["noisy"](x)
    pairs = data.near_duplicates(np.concatenate([noisy, x]), x)
    assert pairs.tolist() == [[1, 0], [0, 0]]


def test_plain_images_are_not_alike():
    random = np.random.default_rng(0)
    sky = 200 + random.integers(0, 4, (20, 32, 32, 3))
    sky += np.arange(32)[:, None, None]
    assert not len(data.near_duplicates(sky.astype("uint8"), sky[::-1] / 255))


def test_bad_input(crops):
    with pytest.raises(ValueError, match="the same channels"):
        data.near_duplicates(crops[:2], crops[:2, ..., :1])
    with pytest.raises(ValueError, match="`threshold` must be"):
        data.near_duplicates(crops[:2], crops[:2], threshold=1.5)
    with pytest.raises(ValueError, match="`x_test` must be a non-empty"):
        data.near_duplicates(crops[:2], crops[0])
