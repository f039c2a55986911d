"""What `--data` can be."""

import keras
import numpy as np
import pytest

from keras_adaad import data
from keras_adaad.command_line.data import class_names
from keras_adaad.command_line.data import load
from keras_adaad.command_line.data import load_part
from tests.data.on_disk import pictures
from tests.data.on_disk import write_cifar10

pytestmark = pytest.mark.once

X, Y = pictures(30, seed=3)


def test_npz(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=X, y=Y)
    x, y = load_part(path, "test", 100, None, False)
    np.testing.assert_allclose(x, X / 255, rtol=1e-6)
    np.testing.assert_array_equal(y, Y)
    assert len(load_part(path, "test", 7, None, False)[0]) == 7
    np.savez(path, x_train=X, y_train=Y)
    own, held_out = (
        {image.tobytes() for image in data.to_arrays(load(path, split))[0]}
        for split in ("train[10:]", "train[:10]")
    )
    assert len(own | held_out) == 30 and not own & held_out
    with pytest.raises(Exception, match="x_test and y_test. Received: x_train"):
        load_part(path, "test", 7, None, False)


def test_a_folder_is_a_split_or_has_one(tmp_path):
    for place, (image, label) in enumerate(zip(X, Y, strict=True)):
        path = tmp_path / "my photos-2" / "test" / f"class {label}"
        path.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path / f"{place}.png", image, scale=False)
    folder = tmp_path / "my photos-2"
    for source in (folder, folder / "test"):
        x, y = load_part(source, "test", 30, None, False)
        classes = sorted(set(Y))
        assert sorted(classes[label] for label in y) == sorted(Y)
    # Brackets are not those of a slice.
    (folder / "test").rename(tmp_path / "kinds [v2]")
    x2, y2 = load_part(tmp_path / "kinds [v2]", "test", 30, None, False)
    assert (
        len(load_part(tmp_path / "kinds [v2]", "test", 7, None, False)[0]) == 7
    )
    np.testing.assert_array_equal(x, x2)
    np.testing.assert_array_equal(y, y2)
    with pytest.raises(ValueError, match="a sub-folder 'train'"):
        load(folder, "train[:5]")


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_folder_of_other_parts_is_no_split(tmp_path, part):
    for name in ("a", "b"):
        (tmp_path / part / name).mkdir(parents=True)
    with pytest.raises(Exception, match=f"sub-folder 'test'.*It has {part}"):
        load_part(tmp_path, "test", 7, None, False)
    # CIFAR-100 has a class of this name.
    path = tmp_path / "elsewhere" / "by-class" / "train"
    path.mkdir(parents=True)
    keras.utils.save_img(path / "0.png", X[0], scale=False)
    x, y = load_part(path.parent, "test", 7, None, False)
    assert len(x) == 1 and y.tolist() == [0]
    assert class_names(path.parent) == ["train"]
    assert class_names(tmp_path / "data.npz") is None


def test_the_classes_of_a_folder_are_those_of_the_split(tmp_path):
    """A folder for `teachers` has training images alone."""
    for name in ("a", "b"):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
    assert class_names(tmp_path / "images", "train") == ["a", "b"]
    np.save(tmp_path / "x_train.npy", X)
    assert class_names(tmp_path, "train") is None


def test_a_name_of_tfds(tmp_path):
    write_cifar10(tmp_path, "tfrecord", test=(X, Y))
    assert len(load_part("cifar10", "test", 1000, tmp_path, False)[0]) == 30
    assert len(load_part("cifar10", "test", 7, tmp_path, False)[0]) == 7
    with pytest.raises(Exception, match="--download.*--data-dir"):
        load_part("cifar100", "test", 7, tmp_path, False)
    with pytest.raises(Exception, match="no such name in TensorFlow Data"):
        load_part("cifar11", "test", 7, tmp_path, False)
