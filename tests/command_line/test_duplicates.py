"""Test images among the training images."""

import types

import numpy as np
import pytest

from keras_adaad.command_line.duplicates import flags_of_copies
from keras_adaad.command_line.duplicates import flags_of_extra
from keras_adaad.command_line.run_folder import digests_of
from keras_adaad.data import load_arrays


@pytest.mark.parametrize("pipeline", ["py_dataset", None])
def test_copies_of_test_images_are_counted(pipeline, capsys):
    x = np.random.default_rng(0).integers(256, size=(300, 8, 8, 3)).astype("u1")
    train, held_out = (
        load_arrays(images, training=training, pipeline=pipeline)
        for images, training in ((x[:200], True), (x[200:] / 255, False))
    )
    new = np.random.default_rng(1).random((100, 8, 8, 3), "float32")
    for copies, found in ((0, ""), (1, "1 of 100"), (3, "3 of 100")):
        x_test = np.concatenate([x[:copies] / np.float32(255), new[copies:]])
        flags = flags_of_copies([train, held_out], x_test)
        assert found in capsys.readouterr().err
        assert ("trained_on_test" in flags) == (copies > 1)
    flags = flags_of_copies([held_out], x[200:] / np.float32(255))
    assert "100 of 100 test images" in flags["trained_on_test"]


@pytest.mark.once
def test_extra_images_are_compared_again_if_they_have_changed(
    digits, tmp_path, capsys
):
    x_test = digits[0][:16]
    noise = np.random.default_rng(0).random((9, 8, 8, 1), "float32")
    arguments = types.SimpleNamespace(output=tmp_path, extra=tmp_path / "x.npz")
    kept = tmp_path / "near_duplicates.txt"
    kept.write_text("0")  # Of an earlier version.
    for image, found in ((noise, 0), (x_test[:5], 5), (x_test[:5], 5)):
        np.savez(arguments.extra, image=image)
        arguments.sha256 = digests_of(arguments)
        flags = flags_of_extra(arguments, x_test)
        assert found == int(flags.get("near_duplicates", "0")[0])
    # The third time nothing had changed.
    assert capsys.readouterr().err.count("Warning: 5 of 5 images") == 1
    np.savez(arguments.extra, image=noise)
    arguments.sha256 = digests_of(arguments)
    assert flags_of_extra(arguments, x_test) == {}
    assert flags_of_extra(arguments, noise) != {}
    arguments.extra = None
    assert flags_of_extra(arguments, noise) == {} and not kept.exists()
