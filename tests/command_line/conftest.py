"""The files of a short run of `keras-adaad distil`."""

import numpy as np
import pytest

from keras_adaad.attacks import presets
from tests import networks


@pytest.fixture
def given(digits, tmp_path, monkeypatch):
    """Flags of a run on digits, whose files are in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(presets.PRESETS, "autoattack", presets.PRESETS["fgsm"])
    x, y = digits
    np.savez(
        "digits.npz",
        **{"x_train": x[:96], "y_train": y[:96]},
        **{"x_test": x[96:128], "y_test": y[96:128]},
    )
    for name in ("teacher", "student"):
        networks.dense_net(name).save(f"{name}.keras")
    return [
        *("--recipe", "ARD/cifar10", "--data", "digits.npz"),
        *("--student", "student.keras", "--epochs", 1, "--hold-out", 32),
        *("--batch-size", 32, "--autoattack-images", 99),
    ]
