"""The folder of a run: what it was given, and its backup."""

import types

import click
import keras
import numpy as np
import pytest

from keras_adaad.command_line.run_folder import Backup
from keras_adaad.command_line.run_folder import digests_of


@pytest.mark.once
def test_a_folder_of_images_is_known_by_names_and_sizes(tmp_path):
    arguments = types.SimpleNamespace(data=str(tmp_path))
    image = tmp_path / "train" / "cat" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"123")
    np.save(tmp_path / "x_test.npy", np.zeros(3))
    digests = [digests_of(arguments)]
    image.write_bytes(b"1234")
    digests.append(digests_of(arguments))
    image.rename(image.with_name("2.png"))
    digests.append(digests_of(arguments))
    np.save(tmp_path / "x_test.npy", np.ones(3))
    digests.append(digests_of(arguments))
    assert len({digest["data"] for digest in digests}) == 4
    # The folder of the run may be there too.
    (tmp_path / "robustness.png").touch()
    assert digests_of(arguments) == digests[-1]


@pytest.mark.once
def test_a_backup_of_other_networks_is_named(tmp_path):
    one, other = (
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
        for units in (2, 3)
    )
    (tmp_path / "backup").mkdir()
    one.save_weights(tmp_path / "backup" / "latest.weights.h5")
    (tmp_path / "backup" / "training_metadata.json").write_text('{"epoch": 1}')
    other.compile("sgd", "mse")
    backup = Backup(types.SimpleNamespace(output=tmp_path))
    backup.set_model(other)
    with pytest.raises(click.UsageError, match="backup does not fit"):
        backup.on_train_begin()
    # Those of the run still resume.
    assert not (tmp_path / "arguments.json").exists()
