"""The student's file: of a student, and of what it is at that time."""

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad.callbacks import StudentCheckpoint
from tests import networks


def pgdat(student):
    attack = keras_adaad.attacks.PGD(epsilon=0.1, steps=1, seed=0)
    trainer = keras_adaad.PGDAT(student, attack, evaluation_attack=None)
    trainer.compile(keras.optimizers.SGD(0.1))
    return trainer


@pytest.mark.once
def test_a_model_without_a_student(batch, tmp_path):
    model = networks.dense_net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    checkpoint = StudentCheckpoint(tmp_path / "student.keras")
    with pytest.raises(ValueError, match=r"keras\.callbacks\.ModelCheckpoint"):
        model.fit(*batch, verbose=0, callbacks=[checkpoint])
    assert not list(tmp_path.iterdir())


def test_the_student_of_a_batch(batch, tmp_path):
    """While JAX trains, the weights are not in the student's variables."""
    normalization = keras.layers.Normalization()
    normalization.adapt(3.0 + batch[0])
    student = keras.Sequential(
        [keras.Input(networks.SHAPE), normalization, networks.student_net()]
    )
    logits = {}

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch_index, logs=None):
            trained = self.model.student
            logits[batch_index + 1] = keras.ops.convert_to_numpy(
                trained(batch[0], training=False)
            )

    checkpoint = StudentCheckpoint(
        tmp_path / "new" / "{batch}.keras", monitor="loss", save_freq=1
    )
    pgdat(student).fit(
        *batch, batch_size=16, verbose=0, callbacks=[Record(), checkpoint]
    )
    assert not np.allclose(logits[1], logits[2])
    for step in (1, 2):
        saved = keras.models.load_model(tmp_path / "new" / f"{step}.keras")
        np.testing.assert_allclose(
            saved.predict(batch[0], verbose=0), logits[step], atol=1e-4
        )


@pytest.mark.parametrize(
    "monitor, best",
    [
        ("val_loss", 1),
        pytest.param("val_pgd_accuracy", 2, marks=pytest.mark.once),
    ],
)
def test_the_best_of_a_loss_is_the_smallest(monitor, best, batch, tmp_path):
    weights = []

    class Scores(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs[monitor] = (0.2, 0.1, 0.3)[epoch]
            weights.append(self.model.student.get_weights())

    path = tmp_path / "student.keras"
    checkpoint = StudentCheckpoint(path, monitor, save_best_only=True)
    pgdat(networks.dense_net()).fit(
        *batch, epochs=3, verbose=0, callbacks=[Scores(), checkpoint]
    )
    saved = keras.models.load_model(path).get_weights()
    networks.assert_same(saved, weights[best])


# On each backend: test_student_checkpoint_is_whole_or_as_before.
@pytest.mark.once
def test_nothing_is_left_of_a_file_that_fails(batch, tmp_path, monkeypatch):
    student = networks.dense_net()
    checkpoint = StudentCheckpoint(tmp_path / "student.keras", monitor="loss")

    def fill(self, store):
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.layers.Dense, "save_own_variables", fill)
    with pytest.raises(OSError, match="No space left"):
        pgdat(student).fit(*batch, verbose=0, callbacks=[checkpoint])
    assert not list(tmp_path.iterdir())
