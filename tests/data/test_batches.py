"""What a batch holds: crops, flips, order, and extra images."""

import numpy as np
import pytest

from keras_adaad import data
from tests.data.on_disk import pictures

# NumPy makes the batches, whatever the backend: test_fit.py trains on them.
pytestmark = pytest.mark.once

PIPELINES = ("tf.data", "py_dataset")


@pytest.fixture(scope="module")
def images():
    return pictures(70, seed=3)


def batches(dataset, epoch=None):
    """Returns the batches of a pass, as a list of tuples of arrays."""
    if epoch is not None:
        dataset.set_epoch(epoch)
    passed = [b if isinstance(b, tuple) else (b,) for b in dataset]
    return [tuple(np.asarray(array) for array in batch) for batch in passed]


def assert_same(first, second):
    for one, two in zip(first, second, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)


def differ(first, second):
    """Whether every batch of images differs."""
    pairs = zip(first, second, strict=True)
    return all((one[0] != two[0]).any() for one, two in pairs)


def all_crops(images, padding):
    """Every crop and flip, written out: bytes -> (image, top, left, flip)."""
    _, height, width, channels = images.shape
    crops = {}
    for k, image in enumerate(images):
        for top in range(2 * padding + 1):
            for left in range(2 * padding + 1):
                crop = np.zeros((height, width, channels), "uint8")
                for row in range(height):
                    for column in range(width):
                        y, x = row + top - padding, column + left - padding
                        if 0 <= y < height and 0 <= x < width:
                            crop[row, column] = image[y, x]
                crops[crop.tobytes()] = (k, top, left, False)
                crops[crop[:, ::-1].tobytes()] = (k, top, left, True)
    return crops


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_evaluation_is_the_images(images, pipeline):
    x, y = images
    dataset = data.load_arrays(x, y[:, None], 32, pipeline=pipeline)
    assert len(dataset) == 3
    assert [len(labels) for _, labels in batches(dataset)] == [32, 32, 6]
    first_images, first_labels = batches(dataset)[0]
    assert first_images.dtype == np.float32
    assert first_labels.dtype == np.int32
    x_all, y_all = data.to_arrays(dataset)
    np.testing.assert_array_equal(x_all, x.astype("float32") / 255)
    np.testing.assert_array_equal(y_all, y)
    x_all = data.to_arrays(data.load_arrays(x / 255, pipeline=pipeline))
    np.testing.assert_allclose(x_all, x / 255, rtol=1e-6)


def test_a_batch_is_not_the_users_array(images):
    x = images[0].astype("float32") / 255
    y = images[1].astype("int32")
    dataset = data.load_arrays(x, y, 32, pipeline="py_dataset")
    for batch in dataset:
        for array in batch:
            array[...] = 7
    assert x.max() <= 1.0
    np.testing.assert_array_equal(y, images[1])


def test_training_images_are_crops():
    generator = np.random.default_rng(0)
    x = generator.integers(1, 256, (40, 6, 5, 3)).astype("uint8")
    y = np.arange(40)
    dataset = data.load_arrays(x, y, 8, training=True, padding=2)
    crops, seen = all_crops(x, padding=2), []
    for epoch in range(20):
        rows = []
        for images, labels in batches(dataset, epoch):
            assert images.shape == (8, 6, 5, 3)
            for image, label in zip(images, labels, strict=True):
                image = np.round(255 * image).astype("uint8")
                seen.append(crops[image.tobytes()])
                assert seen[-1][0] == label
                rows.append(label)
        assert sorted(rows) == list(range(40)) != rows
    _, tops, lefts, flips = np.array(seen).T
    places = np.bincount(5 * tops + lefts, minlength=25)
    assert len(places) == 25 and 10 < places.min() < places.max() < 60
    assert 0.4 < flips.mean() < 0.6


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_last_batch_has_what_is_left(images, pipeline):
    x, _ = images
    sizes = {False: [32, 32, 6], True: [32, 32]}
    for drop, expected in sizes.items():
        dataset = data.load_arrays(
            *(x, np.arange(70), 32, True),
            drop_remainder=drop,
            pipeline=pipeline,
        )
        assert len(dataset) == len(expected)
        rows = [labels for _, labels in batches(dataset)]
        assert [len(labels) for labels in rows] == expected
        seen = np.concatenate(rows)
        assert len(set(seen)) == sum(expected)
    small = data.load_arrays(x[:5], None, 32, True, pipeline=pipeline)
    assert [len(batch) for (batch,) in batches(small)] == [5]
    # Evaluation leaves nothing out.
    dataset = data.load_arrays(x, None, 32, drop_remainder=True)
    assert len(data.to_arrays(dataset)) == 70


@pytest.mark.parametrize(("size", "drop"), [(10, False), (32, True)])
def test_full_batches_have_a_static_size(images, size, drop):
    dataset = data.load_arrays(
        *(*images, size, True), drop_remainder=drop, pipeline="tf.data"
    )
    assert dataset.element_spec[0].shape == (size, 32, 32, 3)


def test_cifar_has_391_steps():
    x = np.broadcast_to(np.zeros((1, 1, 1, 1), "uint8"), (50_000, 1, 1, 1))
    dataset = data.load_arrays(x, training=True, pipeline="py_dataset")
    assert len(dataset) == 391 and len(dataset[390]) == 80


def test_options_of_the_augmentation(images):
    x, _ = images
    plain = data.load_arrays(
        x, np.arange(70), 10, training=True, padding=0, flip=False
    )
    for batch, rows in batches(plain):
        np.testing.assert_array_equal(batch, x[rows].astype("float32") / 255)
    flipped = data.load_arrays(x, np.arange(70), 10, training=True, padding=0)
    both = 0
    for batch, rows in batches(flipped):
        as_is = (batch == x[rows].astype("float32") / 255).all((1, 2, 3))
        mirrored = x[rows][:, :, ::-1].astype("float32") / 255
        assert (as_is | (batch == mirrored).all((1, 2, 3))).all()
        both += as_is.sum()
    assert 20 < both < 50


def test_seed_epoch_and_position_decide(images):
    def load(pipeline, seed=0):
        return data.load_arrays(
            *images, 16, training=True, seed=seed, pipeline=pipeline
        )

    first, second = (load(pipeline) for pipeline in PIPELINES)
    assert len(first) == len(second) == 5
    for epoch in (5, 0, 2):
        assert_same(batches(first, epoch), batches(second, epoch))
        assert_same(batches(first, epoch), batches(load("tf.data"), epoch))
        assert differ(batches(first, epoch), batches(first, epoch + 1))
        assert differ(batches(first, epoch), batches(load(None, 1), epoch))
    # Without an epoch, every pass is one.
    for pipeline in PIPELINES:
        dataset = load(pipeline)
        assert_same(batches(dataset), batches(second, 0))
        if pipeline == "tf.data":
            assert_same(batches(dataset), batches(second, 1))


def write_extra(path, size=50, **arrays):
    """Images of one colour each, so that a crop without padding shows it."""
    image = np.arange(size, dtype="uint8")[:, None, None, None]
    np.savez(path, image=np.broadcast_to(image, (size, 32, 32, 3)), **arrays)
    return path


def test_extra_images(images, tmp_path):
    x, _ = images
    path = write_extra(tmp_path / "extra.npz", label=np.arange(50) + 100)
    dataset = data.load_arrays(
        np.maximum(x, 60),
        np.arange(70),
        20,
        training=True,
        padding=0,
        extra=path,
        extra_fraction=0.7,
    )
    assert len(dataset) == 4
    places, drawn = [], []
    for batch, labels in batches(dataset):
        extra = labels >= 100
        assert extra.sum() == 14
        colour = np.round(255 * batch[:, 0, 0, 0])
        np.testing.assert_array_equal(colour[extra] + 100, labels[extra])
        assert (batch[~extra].max((1, 2, 3)) >= 60 / 255).all()
        places.append(extra)
        drawn.extend(labels)
    # Of 70 own images, in four batches of six.
    assert len(set(drawn)) == 24 + 50
    # Not all at one end: devices split a batch.
    assert (np.diff(places, axis=1) != 0).sum(1).min() > 1


def test_more_extra_images_than_there_are(images, tmp_path):
    path = write_extra(tmp_path / "extra.npz", 4, label=np.arange(4) + 100)
    dataset = data.load_arrays(
        *images, 10, training=True, extra=path, extra_fraction=0.5
    )
    labels = np.concatenate([labels for _, labels in batches(dataset)])
    counts = np.bincount(labels[labels >= 100] - 100)
    assert counts.sum() == 35 and counts.max() - counts.min() == 1


def test_extra_images_without_labels(images, tmp_path, caplog):
    x, y = images
    path = write_extra(tmp_path / "extra.npz")
    dataset = data.load_arrays(x, y, 20, training=True, extra=str(path))
    (batch,) = batches(dataset)[0]
    assert batch.shape == (20, 32, 32, 3)
    assert "no labels" in caplog.text
    assert len(data.to_arrays(dataset)) == 80


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("`x` must be a non-empty array of images", {"x": np.zeros((4, 8, 8))}),
        ("hold images of uint8, or floats", {"x": np.zeros((4, 8, 8, 3), int)}),
        (" / 65535`", {"x": np.full((4, 8, 8, 3), 40_000, "uint16")}),
        (" / 1`", {"x": np.ones((4, 8, 8, 3), bool)}),
        ("values in [3.0, 3.0]", {"x": np.full((4, 8, 8, 3), 3.0)}),
        ("`y` must be a class index for each", {"y": np.zeros(9, int)}),
        ("`y` must be class indices", {"y": np.zeros(70)}),
        ("dtype <U3, such as 'cat'", {"y": np.full(70, "cat")}),
        ("`y` must be class indices", {"y": np.full(70, -1)}),
        (
            "`batch_size` is larger",
            {"batch_size": 71, "drop_remainder": True},
        ),
        ("`batch_size` must be at least 1", {"batch_size": 0}),
        ("`padding` must be at least 0", {"padding": -1}),
        ("`seed` must be at least 0", {"seed": -1}),
        ("`pipeline` must be one of", {"pipeline": "torch"}),
        ("`cutmix` mixes labels", {"cutmix": True, "extra": None}),
        ("`cutmix` is for", {"cutmix": True, "extra": None, "training": False}),
        ("`num_classes` must be at least", {"y": None, "num_classes": 0}),
        ("`num_classes` must be larger", {"num_classes": 9, "extra": None}),
        ("`num_classes` must be at least", {"num_classes": 0, "extra": None}),
        ("`extra_fraction` must be in [0, 1)", {"extra_fraction": 1.0}),
        ("`extra_fraction` must be a finite", {"extra_fraction": -0.1}),
        ("`extra` must be the path", {"extra": "nowhere.npz"}),
        ("`extra` is for training", {"training": False}),
        ("of the size and type", {"x": np.zeros((70, 16, 16, 3), "uint8")}),
        ("of the size and type", {"x": np.zeros((70, 32, 32, 3))}),
    ],
)
def test_bad_input(images, tmp_path, message, options):
    x, y = images
    path = write_extra(tmp_path / "extra.npz")
    arguments = {"x": x, "y": y, "training": True, "extra": path, **options}
    arguments.setdefault("batch_size", 4)
    if "x" in options:
        arguments["y"] = None
    with pytest.raises(ValueError) as error:
        data.load_arrays(**arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("`num_classes` must be an integer", {"num_classes": "three"}),
        ("`cutmix` must be True or False", {"cutmix": "no"}),
    ],
)
def test_a_wrong_type_is_refused_without_labels_too(images, message, options):
    with pytest.raises(TypeError, match=message):
        data.load_arrays(images[0], training=True, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, 255.0, -0.5])
def test_every_image_is_checked(images, tmp_path, value):
    """The last one, far from the batch that a look would show."""
    x = (images[0] / 255).astype("float32")
    x[-1, 0, 0, 0] = value
    with pytest.raises(ValueError, match="`x`"):
        data.load_arrays(x, batch_size=8)
    np.save(tmp_path / "x_train.npy", x)
    with pytest.raises(ValueError, match="`x`"):
        data.load_folder(tmp_path, batch_size=8, training=True)
    np.savez(tmp_path / "extra.npz", image=x)
    with pytest.raises(ValueError, match=r"extra\['image'\]"):
        data.load_arrays(*(x[:8], None, 8, True), extra=tmp_path / "extra.npz")


@pytest.mark.parametrize("label", [-1, 2**40])
def test_every_label_is_checked(images, label):
    x, y = images
    y = y.astype("int64")
    y[-1] = label
    with pytest.raises(ValueError, match=f"`y` must be class.*{label}"):
        data.load_arrays(x, y, 8)


def test_bad_extra_file(images, tmp_path):
    np.savez(tmp_path / "extra.npz", images=np.zeros(3))
    with pytest.raises(ValueError, match="an array `image`"):
        data.load_arrays(
            *images, 16, training=True, extra=tmp_path / "extra.npz"
        )
    write_extra(tmp_path / "extra.npz", label=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"extra\['label'\]"):
        data.load_arrays(
            *images, 16, training=True, extra=tmp_path / "extra.npz"
        )


def test_set_epoch_refuses_other_data(images):
    dataset = data.load_arrays(*images, 16, training=True, pipeline="tf.data")
    with pytest.raises(TypeError, match="before any `map`"):
        data.SetEpoch(dataset.map(lambda x, y: (x, y)))


def size_of_box(mask):
    """Returns the number of pixels of the smallest box around a mask."""
    rows, columns = np.nonzero(mask)
    return np.ptp(rows) * np.ptp(columns) + np.ptp(rows) + np.ptp(columns) + 1


def test_cutmix():
    """Images of one colour each show what was mixed, and how much of it."""
    x = np.broadcast_to(
        np.arange(1, 66, dtype="uint8")[:, None, None, None], (65, 8, 12, 3)
    )
    options = {"training": True, "padding": 0, "flip": False, "cutmix": True}
    soft = data.load_arrays(x, np.arange(65), 16, num_classes=65, **options)
    images_alone = data.load_arrays(x, None, 16, **options)
    areas = []
    for epoch in range(4):
        for (batch, labels), (alone,) in zip(
            batches(soft, epoch), batches(images_alone, epoch), strict=True
        ):
            np.testing.assert_array_equal(batch, alone)
            assert labels.dtype == np.float32
            np.testing.assert_allclose(labels.sum(1), 1.0, rtol=1e-6)
            colours = np.round(255 * batch[..., 0]).astype(int)
            partners = set()
            for image, label in zip(colours, labels, strict=True):
                seen, pixels = np.unique(image, return_counts=True)
                assert len(seen) <= 2
                np.testing.assert_allclose(label[seen - 1], pixels / 96)
                areas.append(min(pixels) / 96 if len(seen) == 2 else 0.0)
                # What is mixed in is a box.
                boxes = [
                    size_of_box(image == colour) == count
                    for colour, count in zip(seen, pixels, strict=True)
                ]
                assert any(boxes)
                partners |= set(seen)
            # The others are of the same batch, whatever its size.
            assert len(partners) <= len(batch)
    assert 0.1 < np.mean(areas) < 0.3


def test_cutmix_changes_no_other_draw(images):
    x, y = images
    plain, mixed = (
        data.load_arrays(x, y, 16, training=True, cutmix=cutmix, num_classes=10)
        for cutmix in (False, True)
    )
    kept = total = 0
    for (one, _), (two, _) in zip(
        batches(plain, 2), batches(mixed, 2), strict=True
    ):
        same = (one == two).all(axis=-1)
        kept, total = kept + same.sum(), total + same.size
    assert 0.5 < kept / total < 0.95


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_labels_as_probabilities(images, pipeline):
    x, y = images
    dataset = data.load_arrays(x, y, 32, num_classes=12, pipeline=pipeline)
    _, labels = data.to_arrays(dataset)
    np.testing.assert_array_equal(labels, np.eye(12)[y])
