"""The teacher stays frozen, and what is saved comes back."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import keras_adaad
from keras_adaad.attacks import PGD
from keras_adaad.callbacks import StudentCheckpoint
from tests import networks


def adaad(**kwargs):
    kwargs.setdefault("attack", PGD(epsilon=0.1, steps=2, seed=0))
    return keras_adaad.AdaAD(
        networks.teacher_net(), networks.student_net(), **kwargs
    )


def test_teacher_is_frozen_for_good(batch):
    distiller = adaad()
    before = networks.snapshot(distiller.teacher)
    distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1))
    distiller.teacher.trainable = True
    distiller.teacher.layers[1].trainable = True
    distiller.fit(*batch, verbose=0)
    networks.assert_same(before, networks.snapshot(distiller.teacher))
    student = {id(v) for v in distiller.student.trainable_variables}
    assert {id(v) for v in distiller.trainable_variables} == student
    assert len(distiller.optimizer.variables) == 2 + len(student)


DISTILLERS = [
    value
    for value in vars(keras_adaad).values()
    if inspect.isclass(value)
    and issubclass(value, keras_adaad.Distiller)
    and value is not keras_adaad.Distiller
]
# One weighs the teacher's outputs by them, one corrects them.
TRUSTS_LESS = {"IAD", "DGAD"}


@pytest.mark.once
@pytest.mark.parametrize("method", DISTILLERS)
def test_fit_checks_the_teacher_at_x_adv_if_the_loss_has_it(batch, method):
    more = {}
    if issubclass(method, (keras_adaad.MTARD, keras_adaad.IADII)):
        more = {"clean_teacher": networks.dense_net()}
    trainer = method(
        *(networks.dense_net(), networks.dense_net()),
        attack=PGD(epsilon=0.1, steps=1, seed=0),
        **more,
    )
    seen = []
    outer_loss, teacher_logits = trainer.outer_loss, trainer.teacher_logits

    def recorded_loss(views, logits, y):
        seen[:] = [views["adversarial"]]  # Not what the attack asked for.
        return outer_loss(views, logits, y)

    def recorded_logits(x, teacher=None):
        seen.append(x)
        return teacher_logits(x, teacher)

    trainer.outer_loss = recorded_loss
    trainer.teacher_logits = recorded_logits
    trainer.compile("sgd")
    trainer.train_on_batch(*batch)
    x_adv, *targets = seen
    has_it = any(x is x_adv for x in targets)
    expected = has_it and method.__name__ not in TRUSTS_LESS
    assert trainer.teacher_sees_adversarial == expected


def test_student_layers_that_the_user_froze_stay(batch):
    distiller = adaad()
    frozen = distiller.student.get_layer("conv0")
    frozen.trainable = False
    before = frozen.get_weights()
    distiller.compile("sgd")
    distiller.fit(*batch, verbose=0)
    np.testing.assert_array_equal(before[0], frozen.get_weights()[0])


def test_predict_and_call_are_the_students(batch):
    x, _ = batch
    distiller = adaad()
    distiller.compile()
    expected = ops.convert_to_numpy(
        distiller.student(ops.convert_to_tensor(x), training=False)
    )
    called = distiller(ops.convert_to_tensor(x), training=False)
    np.testing.assert_allclose(
        ops.convert_to_numpy(called), expected, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        distiller.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5
    )


def test_summary_shows_both_networks():
    lines = []
    adaad().summary(print_fn=lambda line, **kwargs: lines.append(line))
    assert "teacher" in "\n".join(lines) and "student" in "\n".join(lines)


def test_surface_is_that_of_keras_distillation():
    ours = inspect.signature(keras_adaad.AdaAD).parameters
    theirs = inspect.signature(keras.distillation.Distiller).parameters
    assert list(ours)[:2] == list(theirs)[:2] == ["teacher", "student"]


def test_keras_file_restores_everything_compiled(batch, tmp_path):
    x, y = batch
    distiller = adaad(alpha=0.5, temperature=2.0, reduction="mean")
    distiller.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"]
    )
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    restored = keras.models.load_model(tmp_path / "distiller.keras")
    assert isinstance(restored, keras_adaad.AdaAD)
    assert (restored.alpha, restored.temperature) == (0.5, 2.0)
    assert restored.reduction == "mean"
    assert restored.attack.get_config() == distiller.attack.get_config()
    assert not restored.teacher.trainable
    networks.assert_same(
        networks.snapshot(distiller), networks.snapshot(restored)
    )
    # The next step is the same: optimizer and random state came along.
    for model in (distiller, restored):
        model.fit(x, y, shuffle=False, verbose=0)
    for a, b in zip(
        distiller.student.get_weights(),
        restored.student.get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@keras.saving.register_keras_serializable(package="tests")
class Counting(keras_adaad.PGDAT):
    """A method of one's own with a weight that is no state of the library."""

    def build(self, input_shape):
        super().build(input_shape)
        self.count = self.add_weight(
            shape=(), dtype="int32", trainable=False, name="count"
        )


def test_own_weights_and_random_states_are_restored(batch, tmp_path):
    """A resumed run counts on, and draws the next dropout, not the first."""
    student = keras.Sequential(
        [
            keras.Input(networks.SHAPE),
            keras.layers.Dropout(0.5, seed=0),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    trainer = Counting(student)
    trainer.compile("sgd")
    trainer.fit(*batch, verbose=0)
    trainer.count.assign(7)
    trainer.save(tmp_path / "trainer.keras")
    restored = keras.models.load_model(tmp_path / "trainer.keras")
    assert int(restored.count) == 7
    state, again = (
        keras.ops.convert_to_numpy(*model.student.non_trainable_variables)
        for model in (trainer, restored)
    )
    np.testing.assert_array_equal(state, again)
    assert state[1] > 0


def test_pgdat_file_restores_everything_compiled(batch, tmp_path):
    trainer = keras_adaad.PGDAT(networks.student_net(), evaluation_attack=None)
    trainer.compile("adam", metrics=["accuracy"])
    trainer.fit(*batch, verbose=0)
    trainer.save(tmp_path / "trainer.keras")
    restored = keras.models.load_model(tmp_path / "trainer.keras")
    assert restored.evaluation_attack is None
    assert restored.evaluate(*batch, verbose=0) == pytest.approx(
        trainer.evaluate(*batch, verbose=0), rel=1e-4
    )


def test_student_checkpoint_leaves_the_teacher_out(batch, tmp_path):
    x, y = batch
    distiller = adaad()
    distiller.compile("sgd", metrics=["accuracy"])
    best = StudentCheckpoint(tmp_path / "best.keras", save_best_only=True)
    last = StudentCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_weights_only=True
    )
    distiller.fit(
        x,
        y,
        validation_data=(x, y),
        epochs=2,
        verbose=0,
        callbacks=[best, last],
    )
    student = keras.models.load_model(tmp_path / "best.keras")
    assert student.count_params() == distiller.student.count_params()
    twin = networks.student_net()
    twin.load_weights(tmp_path / "2.weights.h5")
    for a, b in zip(
        twin.get_weights(), distiller.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_student_checkpoint_is_whole_or_as_before(batch, tmp_path, monkeypatch):
    """A run that ends while the student is written loses nothing."""
    distiller = adaad()
    distiller.compile("sgd")
    last = StudentCheckpoint(tmp_path / "last.keras")
    distiller.fit(*batch, epochs=1, callbacks=[last], verbose=0)
    before = (tmp_path / "last.keras").read_bytes()

    def die(self, store):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keras.layers.Dense, "save_own_variables", die)
        with pytest.raises(KeyboardInterrupt):
            distiller.fit(*batch, epochs=1, callbacks=[last], verbose=0)
    assert (tmp_path / "last.keras").read_bytes() == before
    distiller.fit(*batch, epochs=1, callbacks=[last], verbose=0)
    assert (tmp_path / "last.keras").read_bytes() != before
    assert keras.models.load_model(tmp_path / "last.keras")


# What is saved is tested above, and the monitor has one name on all backends.
@pytest.mark.once
def test_best_model_checkpoint_watches_robust_accuracy(batch, tmp_path):
    x, y = batch
    distiller = adaad()
    distiller.compile("sgd")
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras",
        monitor="val_robust_accuracy",
        mode="max",
        save_best_only=True,
    )
    distiller.fit(
        x, y, validation_data=(x, y), verbose=0, callbacks=[checkpoint]
    )
    assert (tmp_path / "best.keras").exists()


def test_input_range_scales_the_published_attack():
    attack = adaad(attack=None, input_range=(0, 255)).attack
    assert attack.epsilon == pytest.approx(8.0)
    assert attack.step_size == pytest.approx(2.0)
    assert attack.start_scale == pytest.approx(0.255)
    attack = PGD(epsilon=0.1, input_range=(-1, 1))
    assert adaad(attack=attack).input_range == (-1.0, 1.0)


def test_byte_images_train_with_a_rescaling_model(batch):
    x, y = batch
    x = (255 * x).astype("uint8")

    def rescaled(model):
        inputs = keras.Input(networks.SHAPE)
        outputs = model(keras.layers.Rescaling(1 / 255)(inputs))
        return keras.Model(inputs, outputs)

    distiller = keras_adaad.AdaAD(
        rescaled(networks.teacher_net()),
        rescaled(networks.student_net()),
        PGD(epsilon=8, steps=2, input_range=(0, 255), seed=0),
    )
    x_adv = distiller.perturb(x)
    assert 7.9 < np.abs(x_adv - x).max() <= 8.0 + 1e-4
    distiller.compile("sgd", metrics=["accuracy"])
    history = distiller.fit(x, y, verbose=0).history
    assert np.isfinite(history["loss"]).all()
