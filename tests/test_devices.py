"""One device against two: the same update, the same reported loss."""

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad.attacks import PGD
from tests import networks

BACKEND = keras.config.backend()


def train(batch):
    x, y = batch
    keras.utils.set_random_seed(0)
    distiller = keras_adaad.AdaAD(
        networks.dense_net(),
        networks.dense_net(),
        PGD(epsilon=0.1, steps=3, start=None),
        alpha=0.8,
    )
    start = distiller.student.get_weights()
    distiller.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    history = distiller.fit(
        x, y, validation_data=(x, y), batch_size=32, verbose=0
    ).history
    updates = [
        after - before
        for after, before in zip(
            distiller.student.get_weights(), start, strict=True
        )
    ]
    return updates, history, distiller.perturb(x)


def assert_equal(one, two):
    for a, b in zip(one[0], two[0], strict=True):
        assert np.linalg.norm(a - b) < 1e-3 * np.linalg.norm(a)
    assert set(one[1]) == set(two[1])
    for name, values in one[1].items():
        # Validation starts at random points, which the devices do not share.
        tolerance = 0.05 if "val" in name else 1e-3
        assert two[1][name] == pytest.approx(values, rel=tolerance, abs=0.04)
    assert one[1]["loss"] == pytest.approx(two[1]["loss"], rel=1e-3)
    assert (np.abs(one[2] - two[2]) < 1e-5).mean() > 0.999


def test_mirrored_strategy(batch, two_devices):
    one = train(batch)
    with two_devices.scope():
        two = train(batch)
    assert_equal(one, two)
    with two_devices.scope():
        # BatchNorm, random starts and PGD-AT's labels run there too.
        trainer = keras_adaad.PGDAT(networks.student_net())
        trainer.compile("sgd", metrics=["accuracy"])
    history = trainer.fit(*batch, batch_size=16, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.skipif(BACKEND != "jax", reason="keras.distribution")
def test_data_parallel(batch):
    one = train(batch)
    distribution = keras.distribution.DataParallel()
    assert distribution.device_mesh.devices.size == 2
    keras.distribution.set_distribution(distribution)
    try:
        two = train(batch)
    finally:
        keras.distribution.set_distribution(None)
    assert_equal(one, two)
