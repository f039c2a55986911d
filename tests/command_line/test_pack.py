"""`keras-adaad pack`: a folder of images as one file."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_adaad_cli
from keras_adaad import data
from tests.data.on_disk import pictures

pytestmark = pytest.mark.once

X, Y = pictures(12, seed=8)


def run(*arguments):
    arguments = [str(argument) for argument in arguments]
    return CliRunner().invoke(keras_adaad_cli.main, ["pack", *arguments])


def write(folder, by_class, images=X):
    for place, image in enumerate(images):
        path = folder / f"class {Y[place]}" if by_class else folder
        path.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path / f"{place:02}.png", image, scale=False)
    return folder


def load(path):
    with np.load(path) as file:
        return {name: file[name] for name in file}


def test_a_flat_folder_is_unlabelled(tmp_path):
    output = tmp_path / "images.npz"
    result = run(write(tmp_path / "flat", by_class=False), output)
    assert result.exit_code == 0, result.output
    assert "12 images of 32x32, 0.04 MB." in result.stdout
    arrays = load(output)
    assert list(arrays) == ["image"]
    np.testing.assert_array_equal(arrays["image"], X)
    batch = next(
        iter(data.load_arrays(X, batch_size=6, training=True, extra=output))
    )
    assert batch.shape == (6, 32, 32, 3)


def test_sub_folders_are_classes(tmp_path):
    output = tmp_path / "images.npz"
    result = run(write(tmp_path / "classes", by_class=True), output)
    assert result.exit_code == 0, result.output
    classes = sorted(set(Y))
    assert f"0 class {classes[0]}, 1 class {classes[1]}" in result.stdout
    arrays = load(output)
    assert arrays["image"].dtype == np.uint8
    expected = {(X[k].tobytes(), Y[k]) for k in range(12)}
    pairs = zip(arrays["image"], arrays["label"], strict=True)
    assert {(x.tobytes(), classes[y]) for x, y in pairs} == expected


def test_size(tmp_path):
    """The centre square is kept, and averaged rather than picked from."""
    image = np.zeros((40, 24, 3), "uint8")
    image[8:32:2] = 200
    image[:8] = 255
    folder, output = tmp_path / "images", tmp_path / "images.npz"
    write(folder, False, [image, X[0]])
    assert run(folder, output, "--size", 6).exit_code == 0
    first, second = load(output)["image"]
    assert first.shape == second.shape == (6, 6, 3)
    assert abs(first[1:-1].astype(int) - 100).max() < 10


def test_near_duplicates_are_named(tmp_path):
    folder = write(tmp_path / "images", by_class=False)
    np.savez(tmp_path / "test.npz", x=X[3:5], y=Y[3:5])
    result = run(folder, tmp_path / "o.npz", "--test", tmp_path / "test.npz")
    assert result.exit_code == 0, result.output
    assert "Warning: " in result.stderr
    assert "03.png and test image 0" in result.stderr
    assert "04.png and test image 1" in result.stderr


def test_bad_input(tmp_path):
    output = tmp_path / "images.npz"

    def assert_refused(message, folder, *options, output=output):
        result = run(folder, output, *options)
        assert result.exit_code == 2, result.output
        assert message in result.stderr and result.stderr.count("\n") == 1
        assert not output.exists()

    empty = tmp_path / "empty"
    (empty / "sub").mkdir(parents=True)
    (empty / "notes.txt").touch()
    assert_refused("it holds no image (.jpeg, ", empty)
    assert_refused("does not exist", tmp_path / "nowhere")
    flat = write(tmp_path / "flat", by_class=False)
    assert_refused("must end in .npz", flat, output=tmp_path / "images.npy")
    assert_refused("no folder", flat, output=tmp_path / "no" / "images.npz")
    assert_refused("--test no.npz", flat, "--test", "no.npz")
    np.savez(tmp_path / "grey.npz", x=X[3:5, ..., :1], y=Y[3:5])
    (flat / "one.png").write_bytes(b"no image")
    # Before any image is read.
    grey = ("--test", tmp_path / "grey.npz")
    assert_refused("grey.npz: its images are of shape (32, 32, 1)", flat, *grey)
    assert_refused("one.png' can't be read", flat)
    keras.utils.save_img(flat / "one.png", X[0, :8])
    assert_refused("All images must have one size", flat)
    assert_refused("Pass --size", flat)
    classes = write(tmp_path / "classes", by_class=True)
    keras.utils.save_img(classes / "one.png", X[0])
    assert_refused("beside sub-folders of images", classes)
    (classes / "one.png").unlink()
    for name in (".hidden", "class none"):
        (classes / name).mkdir()
    assert_refused("'class none' without images", classes)
    keras.utils.save_img(classes / "class none" / "one.png", X[0])
    deep = np.full((32, 32), 40_000, "uint16")
    Image.fromarray(deep).save(classes / "class none" / "one.png")
    assert_refused("one.png' must have 8 bits per channel", classes)
    write(tmp_path / "whole" / "train", by_class=True)
    write(tmp_path / "whole" / "test", by_class=True)
    assert_refused("parts of a data set", tmp_path / "whole")
    single = write(tmp_path / "single" / "images", by_class=False).parent
    assert_refused("one class is no label", single)


def test_a_failed_call_keeps_the_file(tmp_path):
    folder, output = (
        write(tmp_path / "flat", by_class=False),
        tmp_path / "a.npz",
    )
    assert run(folder, output).exit_code == 0
    before = output.read_bytes()
    (tmp_path / "folder.npz").mkdir()
    refused = run(folder, tmp_path / "folder.npz")
    assert refused.exit_code == 2 and "is a directory" in refused.stderr
    (folder / "99.png").write_bytes(b"")
    assert run(folder, output).exit_code == 2
    assert output.read_bytes() == before
