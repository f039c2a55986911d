"""TensorFlow on two devices, and in two processes: as on one device."""

import functools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_adaad
from tests import networks
from tests.distribution import tensorflow_worker as worker

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute"
)
ROOT = pathlib.Path(__file__).parents[2]


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        value, other = np.asarray(value), np.asarray(two[name])
        size = np.linalg.norm(value)
        assert np.linalg.norm(value - other) <= 1e-3 * size, name
        assert size > 0 or "accuracy" in name or "epoch" in name, name


@pytest.fixture(scope="module")
def one_device():
    trainer, found = worker.step(worker.plain)
    return found, worker.evaluate(trainer)


def test_one_step(two_devices, one_device):
    trainer, found = worker.step(worker.plain, two_devices.scope())
    assert_equal(one_device[0], found)
    assert_equal(one_device[1], worker.evaluate(trainer))


def test_one_step_with_xla(two_devices, one_device):
    trainer, found = worker.step(
        worker.plain, two_devices.scope(), jit_compile=True
    )
    assert_equal(one_device[0], found)
    assert trainer.compiles_attack and not trainer.jit_compile
    x, _ = worker.load()
    x_adv = trainer.perturb(x[:32])
    assert_equal({"": one_device[1]["perturbed"]}, {"": x_adv})


def test_batch_that_does_not_divide(two_devices):
    """Three images: two on one device, and one on the other."""
    _, one = worker.step(worker.plain, images=3)
    _, two = worker.step(worker.plain, two_devices.scope(), images=3)
    assert_equal(one, two)


@pytest.mark.parametrize("name", ["clipnorm", "gradient_accumulation_steps"])
def test_what_keras_does_to_a_part_of_the_gradient_is_refused(
    two_devices, name, batch
):
    with two_devices.scope():
        trainer = worker.plain()
        trainer.compile(keras.optimizers.SGD(0.1, **{name: 2}))
    for function in (trainer.fit, trainer.train_on_batch):
        with pytest.raises(ValueError, match=f"`{name}` can't .* 2 replicas"):
            function(*batch)


def test_loss_scaling_is_refused(two_devices, batch):
    with two_devices.scope():
        trainer = worker.plain()
        optimizer = keras.optimizers.SGD(0.1)
        trainer.compile(keras.optimizers.LossScaleOptimizer(optimizer))
    with pytest.raises(ValueError, match="Use mixed_bfloat16"):
        trainer.fit(*batch)


def mtard_with_igdm():
    return keras_adaad.MTARD(
        *(networks.dense_net(), networks.dense_net(), worker.EXACT),
        clean_teacher=networks.dense_net(),
        regularizers=[keras_adaad.IGDM(weight=10.0)],
        evaluation_attack=worker.EXACT,
        weight_rate=0.5,
    )


def weight_perturbation():
    return keras_adaad.PGDAT(
        *(networks.dense_net(), worker.EXACT),
        weight_perturbation=0.1,
        evaluation_attack=worker.EXACT,
    )


def peer():
    """Two networks that train."""
    return keras_adaad.PeerAiD(
        *(networks.dense_net(), networks.dense_net(), worker.EXACT),
        evaluation_attack=worker.EXACT,
    )


def two_optimizers():
    trainer = keras_adaad.CIARD(
        *(networks.dense_net(), networks.dense_net(), worker.EXACT),
        clean_teacher=networks.dense_net(),
        evaluation_attack=worker.EXACT,
        # Its factor depends on the images of a device.
        push=0.0,
        teacher_start=0.0,
    )
    trainer.published_teacher_optimizer = lambda: keras.optimizers.SGD(0.1)
    return trainer


def test_an_optimizer_within_another_is_checked_too(two_devices, batch):
    with two_devices.scope():
        trainer = two_optimizers()
        optimizer = keras.optimizers.SGD(0.1, clipnorm=2.0)
        trainer.compile("sgd", teacher_optimizer=optimizer)
        several = worker.plain()
        several.compile(
            keras.optimizers.MultiOptimizer(
                keras.optimizers.OptimizerMap(optimizer)
            )
        )
    for refused in (trainer, several):
        with pytest.raises(ValueError, match="`clipnorm` can't .* 2 replicas"):
            refused.train_on_batch(*batch)


@pytest.mark.parametrize(
    "make", [mtard_with_igdm, weight_perturbation, peer, two_optimizers]
)
def test_states_and_terms(two_devices, make):
    _, one = worker.step(make)
    _, two = worker.step(make, two_devices.scope())
    assert_equal(one, two)


@pytest.fixture(scope="module")
def mirrored_digits(two_devices):
    return worker.digits(two_devices.scope())


def test_digits(mirrored_digits):
    trainer, accuracies = mirrored_digits
    _, expected = worker.digits()
    # Clean and robust, on 517 images; seeds differ by 0.05.
    assert (expected > (0.75, 0.5)).all()
    assert np.abs(accuracies - expected).max() < 0.08
    for variable in trainer.variables:
        first, second = variable.value.values
        np.testing.assert_array_equal(first, second, err_msg=variable.path)


def test_one_model_inside_and_outside_of_the_scope(mirrored_digits, batch):
    trainer, _ = mirrored_digits
    x, y = batch
    alone = keras_adaad.PGDAT(networks.teacher_net(), trainer.attack)
    alone.compile("sgd")
    alone.student.set_weights(trainer.student.get_weights())
    state = keras.ops.convert_to_numpy(trainer.seed_generator.state)
    alone.seed_generator.state.assign(state)

    def found(model):
        report = keras_adaad.evaluate_robustness(
            *(model.student, x, y, ["pgd"]),
            epsilon=0.05,
            reliability_checks=False,
            curve=False,
            verbose=0,
        )
        return model.perturb(x, y), report.images["adversarial"]

    expected = found(alone)
    with trainer.distribute_strategy.scope():
        inside = found(trainer)
    for results in (inside, found(trainer)):
        for result, array in zip(results, expected, strict=True):
            assert (np.abs(result - array) < 1e-5).mean() > 0.999


def in_batches(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(32)


def test_replica_without_images(digits, two_devices):
    x, y = (array[:33] for array in digits)
    with two_devices.scope():
        # With BatchNorm, whose statistics the replicas exchange too.
        trainer = keras_adaad.PGDAT(networks.student_net(), worker.EXACT)
        trainer.compile("sgd")
    fit = functools.partial(trainer.fit, shuffle=False)
    for function in (fit, trainer.evaluate):
        with pytest.raises(ValueError, match="a batch of 1 images, too few"):
            function(x, y, batch_size=32, verbose=0)
        for _ in range(2):
            with pytest.raises(ValueError, match="fewer images than there are"):
                function(in_batches(x, y), verbose=0)
        # Neither replica still waits for the other.
        function(x[:32], y[:32], verbose=0)
    with pytest.raises(ValueError, match="`validation_data` has a batch of 1"):
        trainer.fit(x[:32], y[:32], validation_data=(x, y), verbose=0)


def run_two(folder, task):
    """Runs two processes; returns them, with what they said and when."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    processes = []
    for index in range(2):
        config = {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        with open(folder / f"{task}-{index}.log", "w") as log:
            processes.append(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m"),
                        "tests.distribution.tensorflow_worker",
                        *(folder, task, str(index)),
                    ],
                    cwd=ROOT,
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                    stdout=log,
                    stderr=log,
                )
            )
    try:
        for process in processes:
            process.wait(timeout=150)
    finally:
        for process in processes:
            process.kill()
    said = [(folder / f"{task}-{i}.log").read_text() for i in range(2)]
    return [process.returncode for process in processes], said


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job whose second process was killed in epoch 2 of 3."""
    folder = tmp_path_factory.mktemp("job")
    codes, said = run_two(folder, "run")
    seconds = time.time() - float((folder / "killed.txt").read_text())
    return folder, codes, said, seconds


def test_one_step_of_two_processes(job, one_device):
    expected = {**one_device[0], **one_device[1]}
    for index in range(2):
        assert_equal(expected, np.load(job[0] / f"step-{index}.npz"))
        refused = (job[0] / f"refused-{index}.txt").read_text()
        assert "outside of `strategy.scope()`" in refused


def test_killed_job_stops_and_resumes(job, mirrored_digits):
    folder, codes, said, seconds = job
    assert codes[1] == -signal.SIGKILL, said[1]
    assert codes[0] not in (0, -signal.SIGKILL), said[0]
    assert "UnavailableError" in said[0]
    assert seconds < 60
    codes, said = run_two(folder, "resume")
    assert codes == [0, 0], said
    # The same as two devices of one process, without an interruption.
    trainer, accuracies = mirrored_digits
    expected = [accuracies, *trainer.student.get_weights()]
    for index in range(2):
        found = np.load(folder / f"digits-{index}.npz")
        for value, name in zip(expected, found.files, strict=True):
            difference = np.linalg.norm(value - found[name])
            assert difference < 0.05 * np.linalg.norm(value)
    # The chief alone wrote.
    lines = (folder / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "2"]
    student = keras.models.load_model(folder / "student.keras")
    for a, b in zip(student.get_weights(), expected[1:], strict=True):
        assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(b)
    assert not (folder / "backup").exists()
