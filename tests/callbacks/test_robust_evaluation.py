"""Robust accuracy in the logs of `fit`."""

import glob
import io

import keras
import matplotlib.image as mpimg
import numpy as np
import pytest

import keras_adaad
from keras_adaad.callbacks import RobustEvaluation
from keras_adaad.callbacks import robust_evaluation
from tests import networks

ATTACKS = ["fgsm", keras_adaad.attacks.PGD(epsilon=0.1, steps=2, seed=0)]


def compiled(model):
    model.compile(
        keras.optimizers.SGD(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "logged"),
    [
        ("pgd-20-sat", "pgd-20-sat"),
        ("AutoAttack (standard)", "autoattack"),
        ("AutoAttack (plus)", "autoattack-plus"),
    ],
)
def test_logs_have_the_name_that_the_user_wrote(name, logged):
    assert robust_evaluation._log_name(name) == logged


def test_logs_of_a_plain_model(batch):
    x, y = batch
    model = compiled(networks.student_net())
    robust = RobustEvaluation(x, y, ATTACKS, every=2, epsilon=0.1)
    seen = []
    after = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(dict(logs))
    )
    history = model.fit(x, y, epochs=5, callbacks=[robust, after], verbose=0)
    evaluated = [
        epoch for epoch in range(5) if "val_pgd_accuracy" in seen[epoch]
    ]
    assert evaluated == [1, 3, 4] == list(robust.reports)
    assert len(history.history["val_fgsm_accuracy"]) == 3
    expected = keras_adaad.evaluate_robustness(
        model,
        x,
        y,
        ATTACKS,
        0.1,
        reliability_checks=False,
        curve=False,
        verbose=0,
    )
    assert seen[4]["val_pgd_accuracy"] == expected.robust_accuracy
    np.testing.assert_array_equal(robust.reports[4].robust, expected.robust)
    assert robust.reports[4].images is None


def test_student_of_a_distiller_and_tensorboard(batch, tmp_path):
    import tensorflow as tf

    x, y = batch
    distiller = keras_adaad.AdaAD(
        networks.teacher_net(),
        networks.student_net(),
        keras_adaad.attacks.PGD(epsilon=0.1, steps=2),
    )
    distiller.compile(keras.optimizers.SGD(0.05))
    robust = RobustEvaluation(x, y, "fgsm", epsilon=0.1)
    board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    before = networks.snapshot(distiller.teacher)
    distiller.fit(x, y, epochs=2, callbacks=[robust, board], verbose=0)
    networks.assert_same(before, networks.snapshot(distiller.teacher))
    (file,) = glob.glob(f"{tmp_path}/validation/events*")
    written = {
        event.step: tf.make_ndarray(value.tensor).item()
        for event in tf.compat.v1.train.summary_iterator(file)
        for value in event.summary.value
        if value.tag == "epoch_fgsm_accuracy"
    }
    assert list(written) == [0, 1]
    expected = [report.robust_accuracy for report in robust.reports.values()]
    np.testing.assert_allclose(list(written.values()), expected, rtol=1e-6)


@pytest.mark.once
def test_pictures_for_tensorboard(tmp_path):
    """A picture of each kind per evaluation, where images were fooled."""
    from tensorboard.backend.event_processing import event_accumulator

    rng = np.random.default_rng(0)
    x = rng.uniform(size=(32, 8, 8, 1)).astype("float32")
    linear = [keras.Input((8, 8, 1)), keras.layers.Flatten()]
    model = compiled(keras.Sequential([*linear, keras.layers.Dense(10)]))
    # Right on all images until these are moved, by as much as there is.
    y = model.predict(x, verbose=0).argmax(-1)
    options = {"every": 2, "log_dir": tmp_path, "epsilon": 1.0}
    robust = RobustEvaluation(x, y, "fgsm", **options)
    robust.set_model(model)  # Without `fit`, no image turns wrong meanwhile.
    robust.set_params({"epochs": 3})
    for epoch in range(3):
        robust.on_epoch_end(epoch, {})
    logs = event_accumulator.EventAccumulator(str(tmp_path / "pictures"))
    logs.Reload()
    assert sorted(logs.Tags()["images"]) == ["adversarial_images", "robustness"]
    for name in logs.Tags()["images"]:
        events = logs.Images(name)
        assert [event.step for event in events] == [1, 2]
        for event in events:
            pixels = mpimg.imread(io.BytesIO(event.encoded_image_string))
            assert pixels.shape[:2] == (event.height, event.width)
            assert pixels.std() > 0.01
    assert robust.reports[2].curve is not None


@pytest.mark.once
def test_no_picture_of_images_where_none_was_fooled(batch, tmp_path):
    from tensorboard.backend.event_processing import event_accumulator

    x, _ = batch
    model = compiled(networks.student_net())
    wrong = (model.predict(x, verbose=0).argmax(-1) + 1) % 10
    options = {"log_dir": tmp_path, "epsilon": 0.1}
    robust = RobustEvaluation(x, wrong, "fgsm", **options)
    robust.set_model(model)
    robust.set_params({"epochs": 1})
    robust.on_epoch_end(0, {})
    logs = event_accumulator.EventAccumulator(str(tmp_path / "pictures"))
    assert logs.Reload().Tags()["images"] == ["robustness"]


def test_training_is_the_same_with_and_without(batch):
    x, y = batch
    weights = []
    for callbacks in ([], [RobustEvaluation(x, y, "fgsm", epsilon=0.1)]):
        keras.utils.set_random_seed(0)
        model = compiled(networks.student_net())
        model.fit(x, y, epochs=2, callbacks=callbacks, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.once
def test_bad_arguments(batch):
    with pytest.raises(ValueError, match="every"):
        RobustEvaluation(*batch, every=0)
    evaluation = keras_adaad.attacks.Square(epsilon=0.1)
    with pytest.raises(ValueError, match="RobustEvaluation"):
        keras_adaad.AdversarialTraining(
            networks.student_net(), evaluation_attack=evaluation
        )
