"""`fit` on the batches: epochs, resuming, and devices."""

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad import data
from tests import networks
from tests.data.on_disk import pictures

PIPELINES = ("tf.data", "py_dataset")


@pytest.fixture(scope="module")
def images():
    return pictures(70, seed=3)


def make_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss)
    return model


def fit(model, dataset, epochs, initial_epoch=0, set_epoch=True):
    callbacks = [data.SetEpoch(dataset)] if set_epoch else []
    model.fit(
        dataset,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        callbacks=callbacks,
        verbose=0,
    )
    return model.get_weights()[0]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_resuming(images, pipeline):
    """A run that goes on in another process sees the batches it would have."""

    def load():
        return data.load_arrays(
            *images, 16, training=True, pipeline=pipeline, seed=4
        )

    whole = fit(make_model(), load(), 3)
    for set_epoch in (True, False):
        model = make_model()
        fit(model, load(), 2)
        keras.utils.set_random_seed(1)
        resumed = fit(model, load(), 3, 2, set_epoch)
        assert np.allclose(resumed, whole, rtol=1e-5, atol=1e-7) == set_epoch


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_distiller_tells_the_epoch(images, pipeline):
    dataset = data.load_arrays(*images, 16, training=True, pipeline=pipeline)
    seen = []
    set_epoch = dataset.set_epoch

    def record(epoch):
        seen.append(epoch)
        set_epoch(epoch)

    dataset.set_epoch = record
    attack = keras_adaad.attacks.PGD(epsilon=0.1, steps=1)
    student = make_model()
    trainer = keras_adaad.PGDAT(student, attack, evaluation_attack=None)
    trainer.compile("sgd")
    weights = student.get_weights()
    found = []
    for shuffle in ({}, {"shuffle": False}):
        student.set_weights(weights)
        trainer.seed_generator.state.assign([0, 0])
        trainer.fit(dataset, initial_epoch=3, epochs=5, verbose=0, **shuffle)
        found.append(student.get_weights())
    assert seen == [3, 4, None, 3, 4, None]
    networks.assert_same(*found)
    # Another training counts its passes, and does not see epoch 4 again.
    first, second = (data.to_arrays(dataset) for _ in range(2))
    if pipeline == "tf.data":
        assert not np.array_equal(first[0], second[0])
    # An epoch could end within a pass.
    seen.clear()
    trainer.fit(dataset, steps_per_epoch=1, verbose=0)
    assert not seen


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_two_devices_see_the_same(images, pipeline, two_devices):
    dataset = data.load_arrays(*images, 16, training=True, pipeline=pipeline)
    one = fit(make_model(), dataset, 3, initial_epoch=1)
    with two_devices.scope():
        model = make_model()
    two = fit(model, dataset, 3, initial_epoch=1)
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)
