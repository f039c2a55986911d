"""One process against two real ones, under `torchrun`."""

import os
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_adaad
from tests import networks
from tests.distribution import torch_worker

ROOT = pathlib.Path(__file__).parent.parent.parent

on_torch = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="torch.distributed"
)


def torchrun(folder, task):
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "tests.distribution.torch_worker"),
            *(folder, task),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def load(folder, name):
    """Returns what the two processes wrote."""
    return [dict(np.load(folder / f"{name}-{rank}.npz")) for rank in (0, 1)]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job whose second process was killed, after all else was done."""
    folder = tmp_path_factory.mktemp("job")
    result = torchrun(folder, "run")
    stopped = time.time()
    assert result.returncode != 0
    assert "SIGKILL" in result.stderr, result.stderr
    killed = float((folder / "killed.txt").read_text())
    return folder, stopped - killed


def assert_close(one, two, kinds, rtol):
    names = [name for name in one if name.startswith(kinds)]
    assert len(names) > 4
    for name in names:
        np.testing.assert_allclose(
            two[name], one[name], rtol=rtol, atol=1e-6, err_msg=name
        )


@on_torch
@pytest.mark.parametrize("function", torch_worker.COMPARED[:4])
def test_update_and_logs_are_those_of_one_process(job, function):
    first, second = load(job[0], function.__name__)
    one = function(processes=1)
    assert one.keys() == first.keys() == second.keys()
    assert_close(one, first, ("weight", "log", "evaluated"), rtol=1e-4)
    networks.assert_same(first.values(), second.values())


@on_torch
def test_digits_are_learned_as_by_one_process(job):
    first, second = load(job[0], "digits")
    networks.assert_same(first.values(), second.values())
    one = torch_worker.digits(processes=1)
    # Seeds differ by 0.04 and 0.05 on 1,301 images.
    for name in ("log accuracy", "log adversarial_accuracy"):
        assert first[name][-1] > 0.75
        assert abs(first[name][-1] - one[name][-1]) < 0.1
    assert first["evaluated accuracy"] > 0.6


@on_torch
def test_states_are_shared(job):
    first, second = load(job[0], "states")
    networks.assert_same(first.values(), second.values())
    assert 0.3 < first["state clean_weight"] < 0.7
    assert first["state clean_weight"] != 0.5


@on_torch
def test_killed_job_stops_and_resumes(job):
    folder, seconds = job
    assert seconds < 15
    log = folder / "killed" / "log.csv"
    assert len(log.read_text().splitlines()) == 1 + 2
    result = torchrun(folder, "resume")
    assert result.returncode == 0, result.stderr
    whole, resumed = load(folder, "whole"), load(folder, "resumed")
    for name in whole[0]:
        expected = whole[0][name]
        for process in (whole[1], *resumed):
            np.testing.assert_allclose(process[name], expected, atol=1e-5)
    # Only one process wrote.
    lines = [line.split(",")[0] for line in log.read_text().splitlines()]
    assert lines == ["epoch", "0", "1", "2", "3", "4"]
    student = keras.models.load_model(folder / "killed" / "student.keras")
    for name, weight in zip(whole[0], student.get_weights(), strict=True):
        np.testing.assert_allclose(weight, whole[0][name], atol=1e-5)


def test_one_process_needs_no_torchrun(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    if keras.config.backend() == "torch":
        assert keras_adaad.distribution.initialize() == 0
    else:
        with pytest.raises(ValueError, match="distribut.*KERAS_BACKEND"):
            keras_adaad.distribution.initialize()
