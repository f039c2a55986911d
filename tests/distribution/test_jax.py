"""JAX on two devices, and in two processes: the training of one device."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad import backend
from keras_adaad.attacks import PGD
from keras_adaad.frozen.network import FrozenNetwork
from tests import networks

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="keras.distribution"
)
WORKER = pathlib.Path(__file__).parent / "jax_worker.py"
# In the ball that they are asked for, found on one device and on two.
EQUAL_PIXELS = 0.999


@pytest.fixture(autouse=True)
def _one_device_again():
    yield
    keras.distribution.set_distribution(None)


def data_parallel():
    distribution = keras.distribution.DataParallel()
    assert distribution.device_mesh.devices.size == 2
    return distribution


def model_parallel():
    """Two devices, each with half of every wide kernel of the teacher."""
    mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"))
    layout_map = keras_adaad.distribution.wide_teacher_layout(
        mesh, teacher_net(), min_channels=16
    )
    return keras.distribution.ModelParallel(layout_map=layout_map)


def teacher_net():
    # Its layers have names of their own, for layouts go by path.
    inputs = keras.Input(networks.SHAPE)
    x = keras.layers.Conv2D(16, 3, 2, name="wide", use_bias=False)(inputs)
    x = keras.layers.BatchNormalization(name="wide_bn")(x)
    x = keras.layers.Flatten()(keras.layers.ReLU()(x))
    outputs = keras.layers.Dense(10, name="wide_logits")(x)
    return networks.randomized(keras.Model(inputs, outputs), seed=1)


def student_net():
    inputs = keras.Input(networks.SHAPE)
    x = keras.layers.Conv2D(6, 3, 2, use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    return networks.randomized(keras.Model(inputs, outputs), seed=2)


def train(distiller, x, y, epochs=1):
    """Trains with validation; returns all that there is to compare."""
    start = distiller.student.get_weights()
    distiller.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    history = distiller.fit(
        *(x, y),
        validation_data=(x[:32], y[:32]),
        batch_size=32,
        epochs=epochs,
        verbose=0,
    ).history
    updates = [
        after - before
        for after, before in zip(
            distiller.student.get_weights(), start, strict=True
        )
    ]
    return updates, history, distiller.perturb(x[:32], y[:32])


def assert_equal(one, two):
    for a, b in zip(one[0], two[0], strict=True):
        assert np.linalg.norm(a) > 0
        assert np.linalg.norm(a - b) < 1e-3 * np.linalg.norm(a)
    assert set(one[1]) == set(two[1])
    for name, values in one[1].items():
        assert two[1][name] == pytest.approx(values, rel=1e-3), name
    assert (np.abs(one[2] - two[2]) < 1e-5).mean() > EQUAL_PIXELS


def on_both(make, distribution, x, y):
    """Trains on one device and on two; returns what was trained there."""
    trained = []
    for current in (None, distribution):
        keras.distribution.set_distribution(current)
        keras.utils.set_random_seed(0)
        distiller = make()
        trained.append((distiller, train(distiller, x, y)))
    assert_equal(trained[0][1], trained[1][1])
    return [distiller for distiller, _ in trained]


ATTACK = PGD(epsilon=0.1, steps=2, seed=0)
QUICK = PGD(epsilon=0.1, steps=1, seed=0)


def three_epochs(digits):
    """AdaAD with BatchNorm and random starts; returns all to compare.

    To JAX a batch is one batch on any devices, so these agree too.
    """
    x, y = (array[:640] for array in digits)
    keras.utils.set_random_seed(0)
    distiller = keras_adaad.AdaAD(
        teacher_net(), student_net(), ATTACK, evaluation_attack=QUICK
    )
    trained = train(distiller, x, y, epochs=3)
    # Eighteen images in batches of nine, which does not divide by two.
    report = keras_adaad.evaluate_robustness(
        distiller.student,
        *(x[:18], y[:18], [ATTACK]),
        epsilon=0.1,
        batch_size=9,
        reliability_checks=False,
        curve=False,
        verbose=0,
    )
    accuracies = [report.clean_accuracy, report.accuracy("pgd")]
    return distiller, trained, (accuracies, distiller.perturb(x[:9]))


@pytest.fixture(scope="module")
def on_one_device(digits):
    return three_epochs(digits)


@pytest.mark.parametrize("parallel", [data_parallel, model_parallel])
def test_three_epochs(digits, on_one_device, parallel):
    keras.distribution.set_distribution(parallel())
    distiller, trained, (accuracies, x_adv) = three_epochs(digits)
    _, expected, (expected_accuracies, expected_x_adv) = on_one_device
    assert_equal(expected, trained)
    assert accuracies == expected_accuracies
    assert (np.abs(x_adv - expected_x_adv) < 1e-5).mean() > EQUAL_PIXELS
    kernel = distiller.student.layers[1].kernel.value
    assert len(kernel.sharding.device_set) == 2
    assert kernel.is_fully_replicated
    if parallel is model_parallel:
        check_teacher(distiller.teacher)


def test_one_step(batch):
    """Without BatchNorm and random starts; IGDM adds its term."""

    def make():
        return keras_adaad.AdaAD(
            networks.dense_net(),
            networks.dense_net(),
            PGD(epsilon=0.1, steps=3, start=None),
            evaluation_attack=QUICK,
            alpha=0.8,
            regularizers=[keras_adaad.IGDM(weight=10.0)],
        )

    on_both(make, data_parallel(), *batch)


def check_teacher(teacher):
    """Each device has half of the wide variables, as they are and folded."""
    network = FrozenNetwork(teacher, folded=True)
    folded = backend.compile_function(network.weights, teacher)()
    variables = network.variables
    halved = set()
    for variable, after in zip(variables, folded, strict=True):
        for value in (variable.value, after):
            part = value.sharding.shard_shape(value.shape)
            if part != value.shape:
                assert part == (*value.shape[:-1], value.shape[-1] // 2)
                halved.add((variable.path, value is after))
    bn = [f"wide_bn/{name}" for name in ("gamma", "beta", "moving_mean")]
    wide = ["wide/kernel", "wide_bn/moving_variance", *bn]
    assert halved == {(path, after) for path in wide for after in (False, True)}


def test_states(batch):
    def make():
        return keras_adaad.MTARD(
            networks.dense_net(),
            networks.dense_net(),
            clean_teacher=networks.dense_net(),
            attack=QUICK,
            evaluation_attack=None,
        )

    one, two = on_both(make, data_parallel(), *batch)
    assert {state.name for state in one._states} > set(one.states)
    for a, b in zip(one._states, two._states, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-3), a.name


def test_batches_that_do_not_divide(batch):
    x, y = batch
    keras.distribution.set_distribution(data_parallel())
    distiller = keras_adaad.PGDAT(networks.dense_net(), QUICK)
    distiller.compile("sgd")
    message = "the 2 devices.*drop_remainder=True"
    with pytest.raises(ValueError, match=f"Argument `x`.* 15 .*{message}"):
        distiller.fit(x, y, batch_size=15)
    with pytest.raises(ValueError, match=f"Argument `x`.* 27 .*{message}"):
        distiller.fit(x[:31], y[:31], validation_split=0.1)
    with pytest.raises(ValueError, match=f"`validation_data`.* 5 .*{message}"):
        distiller.fit(x, y, validation_data=(x[:5], y[:5]))
    with pytest.raises(ValueError, match=f"Argument `x`.* 31 .*{message}"):
        distiller.evaluate(x, y, batch_size=31)
    # A data set shows it when it gets there.
    batches = iter([(x[:5], y[:5])])
    with pytest.raises(ValueError, match=message):
        distiller.fit(batches, shuffle=False, verbose=0)


def test_labels_may_come_and_go(batch):
    """The compiled steps have as many metrics as there are labels for."""
    x, y = batch
    keras.distribution.set_distribution(data_parallel())
    networks_ = networks.dense_net(), networks.dense_net()
    distiller = keras_adaad.AdaAD(*networks_, QUICK, evaluation_attack=QUICK)
    distiller.compile("sgd", metrics=["accuracy"])
    logs = []
    for data in ([x], [x, y], [x]):
        distiller.fit(*data, verbose=0)
        logs.append(distiller.evaluate(*data, verbose=0, return_dict=True))
    assert list(logs[0]) == list(logs[2]) == ["loss"]
    assert set(logs[1]) == {"loss", "accuracy", "robust_accuracy"}


def test_layout(tmp_path):
    """A teacher that is loaded under its layout is in parts, and the same."""
    teacher = teacher_net()
    teacher.save(tmp_path / "teacher.keras")
    mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"))
    layout_of = keras_adaad.distribution.wide_teacher_layout
    layout_map = layout_of(mesh, teacher, min_channels=16)
    distribution = keras.distribution.ModelParallel(layout_map=layout_map)
    with distribution.scope():
        loaded = keras.models.load_model(tmp_path / "teacher.keras")
    check_teacher(loaded)
    networks.assert_same(networks.snapshot(teacher), networks.snapshot(loaded))
    with pytest.raises(ValueError, match="axis='models'"):
        layout_of(mesh, teacher, axis="models")
    with pytest.raises(ValueError, match="distribution.DataParallel"):
        layout_of(mesh, teacher)
    with pytest.raises(ValueError, match="not built"):
        layout_of(mesh, networks.Subclassed(4))


def run_two(folder, *arguments):
    """Runs two processes, with a device each; returns their exits, output."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = os.environ["XLA_FLAGS"].replace("count=2", "count=1")
    processes = [
        subprocess.Popen(
            [sys.executable, WORKER, str(index), str(port), folder, *arguments],
            env={**os.environ, "XLA_FLAGS": flags},
            cwd=WORKER.parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    return [process.returncode for process in processes], outputs


def test_two_processes(digits, tmp_path):
    """One is killed in epoch 2 of 3: the other stops, and both resume."""
    codes, outputs = run_two(tmp_path, "kill")
    assert codes[1] == -signal.SIGKILL, outputs[1]
    assert codes[0] not in (0, -signal.SIGKILL), outputs[0]
    assert "by peer" in outputs[0]  # The connection, closed or reset.
    assert not (tmp_path / "0.json").exists()
    codes, outputs = run_two(tmp_path, "run")
    assert codes == [0, 0], outputs
    found = [json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2)]
    assert found[0] == found[1]
    assert found[0]["epochs"] == [1, 2]
    # The uninterrupted training on one device.
    from tests.distribution import jax_worker

    expected = jax_worker.train_and_evaluate(*digits)
    for name, value in expected.items():
        assert found[0][name] == pytest.approx(value, rel=1e-3), name
    student = keras.models.load_model(tmp_path / "student.keras")
    assert student.output_shape == (None, 10)
    # The first process averages, and has what one alone would have.
    averaged = keras.models.load_model(tmp_path / "averaged.keras")
    expected = jax_worker.average(tmp_path / "alone.keras", *digits)
    for a, b in zip(
        averaged.get_weights(), expected.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
