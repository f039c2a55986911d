"""The front doors: TFDS in both file formats, and folders."""

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_adaad import data
from tests.data.on_disk import pictures
from tests.data.on_disk import write

# They read files into NumPy arrays, whatever the backend.
pytestmark = pytest.mark.once

FORMATS = ("tfrecord", "array_record")


def as_set(x, y):
    """The images with their labels, whatever their order."""
    x = np.round(255 * x).astype("uint8")
    return {(image.tobytes(), label) for image, label in zip(x, y, strict=True)}


@pytest.mark.parametrize("file_format", FORMATS)
def test_tfds(cifar10, splits, file_format):
    def load(*arguments, **options):
        return data.load_tfds(
            *("cifar10", *arguments), data_dir=cifar10[file_format], **options
        )

    test = load("test", 20)
    assert len(test) == 3
    assert type(test).__module__.startswith("tensorflow")
    x, y = splits["test"]
    assert as_set(*data.to_arrays(test)) == as_set(x / 255, y)
    train = load("train[:150]", 25, training=True, padding=0, flip=False)
    assert len(train) == 6
    own = as_set(*data.to_arrays(train))
    held_out = as_set(*data.to_arrays(load("train[-50:]", 20)))
    x, y = splits["train"]
    assert not own & held_out
    assert own | held_out == as_set(x / 255, y)


def test_tfds_is_the_same_in_both_formats(cifar10):
    """And through both pipelines: batch for batch."""
    first, second = (
        data.load_tfds(
            *("cifar10", "train", 50),
            training=True,
            seed=7,
            data_dir=cifar10[file_format],
            pipeline=pipeline,
        )
        for file_format, pipeline in zip(
            FORMATS, ("tf.data", "py_dataset"), strict=True
        )
    )
    assert isinstance(second, keras.utils.PyDataset)
    for dataset in (first, second):
        dataset.set_epoch(3)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize(
    ("message", "arguments", "options"),
    [
        ("Unknown split 'training'", ("cifar10", "training"), {}),
        ("incompatible with 200", ("cifar10", "train[:999]"), {}),
        ("`download=True`", ("cifar100", "train"), {}),
        ("cifar", ("cifar11", "train"), {}),
        (
            "`batch_size` is larger",
            ("cifar10", "test", 51, True),
            {"drop_remainder": True},
        ),
        ("`padding`", ("cifar10", "test", 5, True), {"padding": -4}),
    ],
)
def test_tfds_bad_input(cifar10, message, arguments, options):
    with pytest.raises(ValueError, match=message):
        data.load_tfds(*arguments, data_dir=cifar10["array_record"], **options)


@pytest.mark.parametrize(
    ("message", "shape", "label"),
    [
        ("images and their classes", (8, 8, 3), tfds.features.Text()),
        ("of one size", (None, None, 3), tfds.features.ClassLabel(names="a")),
    ],
)
def test_tfds_of_another_kind(tmp_path, message, shape, label):
    class Pictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "pictures"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=shape)
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(
                    {"image": image, "label": label}
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            image = np.zeros((8, 8, 3), "uint8")
            return {"train": [(0, {"image": image, "label": "a"})]}

        def _generate_examples(self):
            raise NotImplementedError

    write(Pictures(data_dir=tmp_path, file_format="array_record"))
    with pytest.raises(ValueError, match=message):
        data.load_tfds("pictures", "train", data_dir=tmp_path)


@pytest.fixture(scope="module")
def tiny_imagenet(tmp_path_factory):
    """The layout of Tiny-ImageNet: (folder, images, labels)."""
    folder = tmp_path_factory.mktemp("tiny")
    x, y = pictures(40, seed=5)
    for k, (image, label) in enumerate(zip(x, y, strict=True)):
        # Names whose order is not that of the labels.
        images = folder / "train" / f"n0{9 - label}" / "images"
        images.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(images / f"{k}.PNG", image, scale=False)
    images = folder / "val" / "images"
    images.mkdir(parents=True)
    lines = []
    # All classes are among them.
    for k in range(24):
        keras.utils.save_img(images / f"val_{k:02}.JPEG", x[k], scale=False)
        lines.append(f"val_{k:02}.JPEG\tn0{9 - y[k]}\t0\t0\t9\t9\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder, x, y


def test_image_folder(tiny_imagenet):
    folder, x, y = tiny_imagenet
    sorted_labels = np.unique(9 - y, return_inverse=True)[1]
    train = data.to_arrays(data.load_folder(folder))
    assert train[0].shape == (40, 32, 32, 3)
    assert as_set(*train) == as_set(x / 255, sorted_labels)
    x_val, y_val = data.to_arrays(data.load_folder(folder, "val"))
    np.testing.assert_array_equal(y_val, sorted_labels[:24])
    # JPEG loses a little.
    assert np.abs(x_val - x[:24] / 255).mean() < 0.1


def make_folder(folder, *names):
    """Writes a small image under each name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, np.zeros((4, 4, 3)), scale=False)
    return folder


def test_hidden_files_and_folders_are_no_data(tmp_path):
    folder = make_folder(
        tmp_path,
        *("train/cat/0.png", "train/dog/0.png", "train/dog/1.png"),
        "train/.ipynb_checkpoints/0-checkpoint.png",
        "train/dog/.ipynb_checkpoints/0-checkpoint.png",
    )
    # What macOS leaves beside a file on other systems' disks.
    (folder / "train" / "cat" / "._0.png").write_bytes(b"\x00\x05\x16\x07")
    _, labels = data.to_arrays(data.load_folder(folder))
    np.testing.assert_array_equal(labels, [0, 1, 1])


def test_links_to_folders_are_followed(tmp_path):
    folder = make_folder(tmp_path, "train/cat/0.png", "elsewhere/0.png")
    (folder / "train" / "dog").symlink_to(folder / "elsewhere")
    # A folder that contains the link itself is not.
    (folder / "train" / "cat" / "all").symlink_to(folder / "train")
    _, labels = data.to_arrays(data.load_folder(folder))
    np.testing.assert_array_equal(labels, [0, 1])


def test_classes_that_are_numbers_in_another_order(tmp_path):
    for name in range(11):
        folder = tmp_path / "train" / str(name)
        folder.mkdir(parents=True)
        keras.utils.save_img(folder / "a.png", np.full((2, 2, 3), name))
    with pytest.warns(UserWarning, match="leading zeros"):
        dataset = data.load_folder(tmp_path)
    _, labels = data.to_arrays(dataset)
    assert sorted(labels) == list(range(11))


def test_a_class_without_images_is_named(tmp_path):
    folder = make_folder(tmp_path, "train/cat/0.png", "train/emu/0.png")
    (folder / "train" / "dog").mkdir()
    (folder / "train" / "dog" / "notes.txt").write_text("later")
    with pytest.raises(ValueError, match="Received: 'dog' without images"):
        data.load_folder(folder)


def test_a_class_that_a_split_lacks_is_named(tmp_path):
    """An accuracy would leave it out."""
    folder = make_folder(
        tmp_path,
        *("train/cat/0.png", "train/dog/0.png", "train/emu/0.png"),
        *("test/cat/0.png", "test/emu/0.png", "val/images/0.png"),
    )
    with pytest.raises(ValueError, match="Received: 'dog' without images"):
        data.load_folder(folder, "test")
    (folder / "val" / "val_annotations.txt").write_text("0.png\tdog\n")
    with pytest.raises(ValueError, match="'cat', 'emu' without images"):
        data.load_folder(folder, "val")


def test_image_files_that_are_not_read_are_counted(tmp_path):
    folder = make_folder(tmp_path, "train/cat/0.png", "train/dog/0.PNG")
    others = ("cat/0.TIF", "cat/1.tif", "dog/0.heic", "cat/.0.tif", "a.txt")
    for name in others:
        (folder / "train" / name).write_bytes(b"II")
    with pytest.warns(
        UserWarning, match=r"3 image file\(s\) .* in .heic, .tif are"
    ):
        dataset = data.load_folder(folder)
    assert len(data.to_arrays(dataset)[0]) == 2


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    folder = make_folder(tmp_path, "train/cat/0.png", "train/cat/1.png")
    path = folder / "train" / "cat" / "1.png"
    for content in (path.read_bytes()[:30], b"no image", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="1.png' can't be read"):
            data.load_folder(folder)


def test_lines_of_annotations(tmp_path):
    folder = make_folder(
        tmp_path,
        *("train/cat/0.png", "train/dog/0.png"),
        *("val/images/a.png", "val/images/b.png"),
    )
    annotations = folder / "val" / "val_annotations.txt"
    annotations.write_text("\na.png\tdog\n\nb.png\tcat\n  \n")
    _, labels = data.to_arrays(data.load_folder(folder, "val"))
    np.testing.assert_array_equal(labels, [1, 0])
    annotations.write_text("a.png\tdog\nb.png\n")
    with pytest.raises(ValueError, match="line 2, 'b.png'"):
        data.load_folder(folder, "val")
    annotations.write_text("b.png\tcat\nc.png\tdog\n")
    with pytest.raises(ValueError, match="c.png' can't be read"):
        data.load_folder(folder, "val")


@pytest.mark.parametrize(
    "parts", [("[:-10]", "[-10:]"), ("[:30]", "[30:]"), ("[:75%]", "[75%:]")]
)
def test_folder_holds_out(tiny_imagenet, parts):
    folder, _, _ = tiny_imagenet
    own, held_out = (
        data.to_arrays(data.load_folder(folder, f"train{part}"))
        for part in parts
    )
    assert len(own[0]) == 30 and len(held_out[0]) == 10
    assert not as_set(*own) & as_set(*held_out)
    # Files are sorted by class, and the slice is not.
    assert len(set(held_out[1])) > 3


def test_array_folder(tmp_path):
    x, y = pictures(30, seed=6)
    np.save(tmp_path / "x_train.npy", x)
    np.save(tmp_path / "y_train.npy", y)
    np.save(tmp_path / "x_test.npy", (x[:5] / 255).astype("float32"))
    train = data.load_folder(tmp_path, "train[:20]", 5, training=True)
    assert len(train) == 4
    whole = data.to_arrays(data.load_folder(tmp_path))
    assert (whole[0] == x.astype("float32") / 255).all()
    assert (whole[1] == y).all()
    test = data.to_arrays(data.load_folder(tmp_path, "test"))
    np.testing.assert_allclose(test, x[:5] / 255, rtol=1e-6)
    np.save(tmp_path / "y_train.npy", y[:7])
    with pytest.raises(ValueError, match="`y_train.npy`"):
        data.load_folder(tmp_path)


@pytest.mark.parametrize(
    ("message", "split"),
    [
        ("neither a folder 'test'", "test"),
        ("Argument `split` must be", "train[:9"),
        ("Argument `split` must be", 3),
        ("more than there is", "train[:41]"),
        ("takes no image", "train[5:5]"),
        ("a sub-folder", "classes"),
        ("a sub-folder of images", "empty"),
        ("must have one size", "sizes"),
    ],
)
def test_folder_bad_input(tiny_imagenet, message, split):
    folder, x, _ = tiny_imagenet
    (folder / "empty").mkdir(exist_ok=True)
    classes = [path.name for path in (folder / "train").iterdir()]
    for name, image in {
        "classes/n77/0.png": x[0],
        **{f"sizes/{name}/0.png": x[0] for name in classes},
        "sizes/n01/1.png": x[0, 1:],
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, image, scale=False)
    with pytest.raises(ValueError, match=message):
        data.load_folder(folder, split)
    with pytest.raises(ValueError, match="no such folder"):
        data.load_folder(folder / "nowhere")
