"""What TensorFlow alone needs."""

import keras
import pytest

import keras_adaad
from keras_adaad import backend
from tests import networks

if keras.config.backend() != "tensorflow":
    pytest.skip("TensorFlow's data sets", allow_module_level=True)

import tensorflow as tf


@pytest.fixture
def tuned(monkeypatch):
    """Whether a thread tunes each data set that is gone through."""
    seen = []
    iterate = tf.data.Dataset.__iter__

    def spied(dataset):
        seen.append(dataset.options().autotune.enabled)
        return iterate(dataset)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", spied)
    return seen


@pytest.fixture
def distiller():
    attack = keras_adaad.attacks.PGD(epsilon=0.1, step_size=0.1, steps=1)
    distiller = keras_adaad.AdaAD(
        networks.dense_net(), networks.dense_net(), attack
    )
    distiller.compile("sgd", metrics=["accuracy"])
    return distiller


def test_no_thread_tunes_arrays(distiller, batch, tuned):
    """At the end of an epoch Keras would wait until it wakes up."""
    distiller.fit(*batch, epochs=2, validation_data=batch, verbose=0)
    distiller.evaluate(*batch, verbose=0)
    # Two epochs, a validation after each, and an evaluation, at the least.
    assert len(tuned) >= 5 and set(tuned) == {False}


@pytest.mark.parametrize("chosen", [None, True, False])
def test_data_set_is_tuned_if_it_asks(distiller, batch, tuned, chosen):
    options = tf.data.Options()
    if chosen is not None:
        options.autotune.enabled = chosen
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(16)
    distiller.fit(dataset.with_options(options), shuffle=False, verbose=0)
    assert tuned[-1] is bool(chosen)


def test_a_step_is_traced_once(distiller, batch, monkeypatch):
    """Making the optimizer's variables in it would have it traced again."""
    step, traces = backend.views_then_step, []

    def counted(*args, **kwargs):
        traces.append(0)
        return step(*args, **kwargs)

    monkeypatch.setattr(backend, "views_then_step", counted)
    distiller.fit(*batch, validation_data=batch, verbose=0)
    # That of training, and that of validation.
    assert len(traces) == 2
    distiller.compile("adam", metrics=["accuracy"])
    distiller.train_on_batch(*batch)
    assert len(traces) == 3
