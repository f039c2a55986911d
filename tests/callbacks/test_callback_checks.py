"""Callbacks that would not do what they are for, and backups that are cut."""

import json

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad.attacks import PGD
from keras_adaad.training import callback_checks
from tests import networks

pytestmark = pytest.mark.once


def make_trainer(**options):
    trainer = keras_adaad.PGDAT(
        networks.dense_net(), PGD(epsilon=0.1, steps=1, seed=0)
    )
    optimizer = keras.optimizers.SGD(0.1, **options)
    trainer.compile(optimizer, metrics=["accuracy"])
    return trainer


@pytest.mark.parametrize(
    "monitor",
    ["val_robust_accuracy", "adversarial_accuracy", "val_fgsm_accuracy"],
)
def test_more_accuracy_is_better(batch, monitor, tmp_path):
    callbacks = [
        keras_adaad.callbacks.RobustEvaluation(*batch, ["fgsm"]),
        keras.callbacks.EarlyStopping(monitor),
        keras.callbacks.ReduceLROnPlateau(monitor, factor=0.5, patience=1),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor, save_best_only=True
        ),
    ]
    make_trainer().fit(
        *batch, validation_data=batch, callbacks=callbacks, verbose=0
    )
    assert {callback.mode for callback in callbacks[1:]} == {"max"}
    assert (tmp_path / "best.keras").exists()


def test_what_is_measured_is_saved(batch, tmp_path):
    measure = keras_adaad.callbacks.RobustEvaluation(*batch, ["fgsm"])
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    path = tmp_path / "student.keras"
    save = keras_adaad.callbacks.StudentCheckpoint(path, "val_fgsm_accuracy")
    trainer = make_trainer(use_ema=True)
    with pytest.raises(ValueError, match="Put `RobustEvaluation` after"):
        trainer.fit(*batch, callbacks=[measure, swap, save], verbose=0)
    logs = trainer.fit(
        *batch, callbacks=[swap, measure, save], epochs=2, verbose=0
    ).history
    report = keras_adaad.evaluate_robustness(
        keras.models.load_model(path),
        *(*batch, ["fgsm"], 0.1),
        reliability_checks=False,
        curve=False,
        verbose=0,
    )
    assert report.robust_accuracy in logs["val_fgsm_accuracy"]


def test_one_state_of_several_evaluations_is_refused(batch, tmp_path):
    with pytest.raises(ValueError, match="`state_path` is for one"):
        keras_adaad.callbacks.RobustEvaluation(
            *batch, state_path=tmp_path / "state.npz"
        )


def test_one_of_several_processes_is_not_stopped():
    stop = keras.callbacks.TerminateOnNaN()
    with pytest.raises(ValueError, match="stops one process"):
        callback_checks.check_in_processes([stop])


def test_a_backup_that_was_cut(batch, tmp_path):
    def backup(double_checkpoint=True):
        return keras.callbacks.BackupAndRestore(
            tmp_path / "backup",
            double_checkpoint=double_checkpoint,
            delete_checkpoint=False,
        )

    fit = {"verbose": 0, "shuffle": False}
    whole = make_trainer()
    keras.utils.set_random_seed(0)
    student = whole.student.get_weights()
    whole.fit(*batch, epochs=3, **fit)
    killed = make_trainer()
    killed.student.set_weights(student)
    killed.fit(*batch, epochs=2, callbacks=[backup()], **fit)
    metadata = tmp_path / "backup" / "training_metadata.json"
    metadata.write_text("")
    resumed = make_trainer()
    logs = resumed.fit(*batch, epochs=3, callbacks=[backup()], **fit).history
    assert len(logs["loss"]) == 2  # The second epoch runs again.
    for found, expected in zip(
        resumed.student.get_weights(), whole.student.get_weights(), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert json.loads(metadata.read_text())["epoch"] == 3
    metadata.write_text("")
    for path in (tmp_path / "backup").glob("*.bkp"):
        path.unlink()
    with pytest.raises(ValueError, match="backup in .* is not complete"):
        make_trainer().fit(*batch, callbacks=[backup(False)], **fit)


def test_a_backup_is_written_completely_or_not_at_all(tmp_path, monkeypatch):
    trainer = make_trainer()
    path = tmp_path / "a.weights.h5"
    trainer.save_weights(path)
    before = path.read_bytes()

    def die(self, store):
        raise RuntimeError("killed")

    monkeypatch.setattr(type(trainer), "save_own_variables", die)
    with pytest.raises(RuntimeError, match="killed"):
        trainer.save_weights(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
