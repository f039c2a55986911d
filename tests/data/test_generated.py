"""Training with generated images, as docs/guides/generated-data.md shows it."""

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad import data
from keras_adaad import recipes
from tests import networks


@pytest.fixture(scope="module")
def generated(digits, tmp_path_factory):
    """The path of a file with digits that have labels or none."""
    x, y = digits
    folder = tmp_path_factory.mktemp("generated")
    np.savez(folder / "labelled.npz", image=x[64:128], label=y[64:128])
    np.savez(folder / "images.npz", image=x[64:128])
    return folder


def load(digits, path, **options):
    x, y = digits
    return data.load_arrays(
        *(x[:32], y[:32], 16, True),
        padding=1,
        extra=path,
        extra_fraction=0.5,
        cutmix=True,
        **options,
    )


def test_without_labels(digits, generated):
    """The recipe's loss, data and average."""
    x, y = digits
    recipe = recipes.get("AdaAD-generated", "cifar10")
    train = load(digits, generated / "images.npz")
    student = networks.dense_net("student")
    distiller = keras_adaad.AdaAD(
        networks.dense_net("teacher"), student, **recipe.arguments(seed=0)
    )
    distiller.compile(recipe.optimizer(len(train), epochs=2))
    history = distiller.fit(
        train,
        validation_data=(x[:16], y[:16]),
        epochs=2,
        shuffle=False,
        callbacks=[data.SetEpoch(train), keras.callbacks.SwapEMAWeights()],
        verbose=0,
    )
    assert np.isfinite(history.history["loss"]).all()
    assert "val_robust_accuracy" in history.history
    # Keras leaves the average in the student.
    averages = distiller.optimizer._model_variables_moving_average
    for weight, average in zip(
        student.trainable_variables, averages, strict=True
    ):
        np.testing.assert_allclose(weight, average, rtol=1e-6)


def test_with_labels(digits, generated):
    x, y = digits
    train = load(digits, generated / "labelled.npz", num_classes=10)
    held_out = data.load_arrays(x[:32], y[:32], 16, num_classes=10)
    trainer = keras_adaad.TRADES(
        networks.dense_net("student"), label_smoothing=0.1
    )
    assert trainer.get_config()["label_smoothing"] == 0.1
    trainer.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    history = trainer.fit(
        train, validation_data=held_out, shuffle=False, verbose=0
    ).history
    predicted = trainer.student.predict(x[:32], verbose=0).argmax(-1)
    assert history["val_accuracy"] == [
        pytest.approx(np.mean(predicted == y[:32]))
    ]
    with pytest.raises(ValueError, match="`validation_data`.*`num_classes`"):
        trainer.fit(train, validation_data=(x[:32], y[:32]), verbose=0)
