"""The three backends find the same points and take the same step."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_adaad
from tests import networks


def compute(folder):
    """Writes what this backend finds, from the files of `folder`."""
    data = load_digits()
    x = (data.images[:64] / 16.0).astype("float32")[..., None]
    y = data.target[:64]
    noise = np.load(folder / "noise.npy")
    teacher, student = networks.teacher_net(), networks.student_net()
    for name, model in (("teacher", teacher), ("student", student)):
        with np.load(folder / f"{name}.npz") as weights:
            model.set_weights([weights[k] for k in weights.files])
    pgd = keras_adaad.attacks.PGD(epsilon=0.1, seed=0)(student, x, y)
    x_adv = keras_adaad.AdaAD(teacher, student).perturb(x, noise=noise)
    attack = keras_adaad.attacks.PGD(
        epsilon=8 / 255, step_size=2 / 255, steps=10, start=None
    )
    distiller = keras_adaad.AdaAD(teacher, student, attack)
    distiller.compile(keras.optimizers.SGD(0.1))
    logs = distiller.train_on_batch(x, y, return_dict=True)
    np.savez(
        folder / f"{keras.config.backend()}.npz",
        x_adv=x_adv,
        pgd=pgd,
        loss=float(logs["loss"]),
        **{f"w{i}": w for i, w in enumerate(student.get_weights())},
    )


@pytest.mark.skipif(keras.config.backend() != "torch", reason="once is enough")
def test_backends_agree(tmp_path):
    generator = np.random.default_rng(0)
    noise = 0.001 * generator.normal(size=(64, *networks.SHAPE))
    np.save(tmp_path / "noise.npy", noise.astype("float32"))
    teacher, student = networks.teacher_net(), networks.student_net()
    np.savez(tmp_path / "teacher.npz", *teacher.get_weights())
    np.savez(tmp_path / "student.npz", *student.get_weights())
    compute(tmp_path)
    ours = np.load(tmp_path / "torch.npz")
    for backend in ("tensorflow", "jax"):
        child = subprocess.run(
            [sys.executable, "-m", "tests.test_across_backends", tmp_path],
            cwd=pathlib.Path(__file__).parents[1],
            env={**os.environ, "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
        )
        assert child.returncode == 0, child.stderr
        theirs = np.load(tmp_path / f"{backend}.npz")
        for name in ("x_adv", "pgd"):
            same = np.abs(ours[name] - theirs[name]) < 1e-5
            assert same.mean() >= 0.995, (backend, name)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)
        for name in ours:
            if name.startswith("w"):
                np.testing.assert_allclose(
                    ours[name], theirs[name], rtol=1e-2, atol=1e-4
                )


if __name__ == "__main__":
    if keras.config.backend() != "tensorflow":
        # `keras.utils` would import it.
        import tests.data.without_tensorflow  # noqa: F401
    compute(pathlib.Path(sys.argv[1]))
