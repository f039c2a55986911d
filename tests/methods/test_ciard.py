"""CIARD against a transcription: two networks, with an optimizer each."""

import keras
import numpy as np
import pytest
import torch

import keras_adaad
from keras_adaad.attacks import PGD
from keras_adaad.methods.ciard import CIARD
from keras_adaad.optimizers import CoupledSGD
from keras_adaad.optimizers import PerNetwork
from tests import networks
from tests.methods import parity
from tests.oracles.stateful_methods import Ciard

NAMES = ("student", "teacher", "clean_teacher")
# Far from each other, so that none can stand in for the other.
STUDENT = {"momentum": 0.9, "weight_decay": 0.01}
TEACHER = {"momentum": 0.5, "weight_decay": 0.03}


def labels_with(models, modules, y, errors):
    """Returns labels of which the clean teacher misses some, or none."""
    if errors == "some":
        return y
    layer = models["clean_teacher"].get_layer("logits")
    bias = np.eye(10, dtype="float32")[3] * 30.0
    layer.bias.assign(bias)
    modules["clean_teacher"].logits.bias.data = torch.tensor(bias)
    return np.full_like(y, 3)


def layers_of(model):
    return {layer.name: layer.get_weights() for layer in model.layers}


@pytest.mark.parametrize(
    "errors, start, options",
    [
        ("some", 0.0, {}),
        ("some", 0.5, {"push": 0.7, "push_temperature": 2.0}),
        ("none", 0.0, {}),
    ],
)
def test_two_steps_are_the_codes(batch, noise, errors, start, options):
    models, modules = parity.twins(*NAMES)
    x, y = batch
    predicted = models["clean_teacher"].predict(x, verbose=0).argmax(-1)
    y = np.where(np.arange(len(y)) % 2 == 0, predicted, y).astype("int32")
    y = labels_with(models, modules, y, errors)
    oracle = Ciard(rate=0.5, ceiling=1.7, **options)
    trainer = CIARD(
        **models,
        temperature_rate=0.5,
        max_temperature=1.7,
        teacher_start=start,
        reduction="mean",
        **options,
    )
    trainer.compile(
        CoupledSGD(0.1, **STUDENT), teacher_optimizer=CoupledSGD(0.2, **TEACHER)
    )
    trainer.attack.start_noise = lambda *args: noise
    optimizers = {
        "student": torch.optim.SGD(
            modules["student"].parameters(), 0.1, **STUDENT
        ),
        "teacher": torch.optim.SGD(
            modules["teacher"].parameters(), 0.2, **TEACHER
        ),
    }
    images, labels = parity.to_torch(x), torch.tensor(y).long()
    starts = {name: layers_of(models[name]) for name in NAMES}
    # The first step of an epoch in which the teacher does not learn, and two in
    # one in which it does: an idle optimizer must gather no momentum.
    for epoch, steps in ((0, 2), (1, 2)):
        trainer.start_epoch(epoch, 2)
        learns = epoch >= 2 * start
        assert trainer.teacher_learns == learns
        for _ in range(steps):
            x_adv = trainer.perturb(x, y, noise=noise)
            expected = oracle.attack(
                modules, images, labels, parity.to_torch(noise)
            )
            same = np.abs(x_adv - parity.to_keras(expected)) < 1e-5
            assert same.mean() >= 0.999
            logs = trainer.train_on_batch(x, y, return_dict=True)
            of_student, of_teacher = oracle.losses(
                modules, images, parity.to_torch(x_adv), labels
            )
            value = of_student.item() + of_teacher.item()
            assert float(logs["loss"]) == pytest.approx(value, rel=3e-5)
            for optimizer in optimizers.values():
                optimizer.zero_grad()
            (of_student + of_teacher).backward()
            optimizers["student"].step()
            if learns:
                optimizers["teacher"].step()
        parity.assert_same_change(
            models["student"], modules["student"], starts["student"]
        )
        if learns:
            parity.assert_same_change(
                models["teacher"], modules["teacher"], starts["teacher"]
            )
        else:
            assert_moved_statistics_alone(
                models["teacher"], modules["teacher"], starts["teacher"]
            )
    assert (oracle.errors > 0) == (errors == "some")
    assert oracle.errors < len(y)
    ours = [trainer.adversarial_temperature, trainer.clean_temperature]
    np.testing.assert_allclose(
        [float(t) for t in ours], oracle.temperatures, rtol=1e-5
    )
    assert max(oracle.temperatures) > 1.0
    for name, weights in layers_of(models["clean_teacher"]).items():
        networks.assert_same(weights, starts["clean_teacher"][name])


def assert_moved_statistics_alone(model, module, starts):
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            networks.assert_same(layer.get_weights(), starts[layer.name])
            continue
        gamma, beta, mean, variance = layer.get_weights()
        networks.assert_same([gamma, beta], starts[layer.name][:2])
        child = module.get_submodule(layer.name)
        for ours, theirs, before in zip(
            (mean, variance),
            (child.running_mean, child.running_var),
            starts[layer.name][2:],
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
            assert np.abs(ours - before).max() > 1e-3


def small(models, **options):
    """Few steps: JAX unrolls and compiles each."""
    attack = PGD(epsilon=0.1, steps=2, seed=0)
    return CIARD(**models, attack=attack, evaluation_attack=None, **options)


def test_is_saved_and_resumed_with_both_optimizers(tmp_path, batch):
    x, y = (array[:16] for array in batch)
    models, _ = parity.twins(*NAMES)
    trainer = small(models, temperature_rate=0.1, teacher_start=0.5)
    trainer.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        teacher_optimizer=CoupledSGD(0.05, momentum=0.5),
        metrics=["accuracy"],
    )
    trainer.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert trainer.teacher_learns
    parts = trainer.optimizer.parts
    steps = {name: int(part.iterations) for name, part in parts.items()}
    assert steps == {"student": 2, "teacher": 1}

    trainer.save(tmp_path / "trainer.keras")
    resumed = keras.models.load_model(tmp_path / "trainer.keras")
    assert resumed.teacher_learns
    assert resumed.teacher.trainable and not resumed.clean_teacher.trainable
    for name, part in resumed.optimizer.parts.items():
        assert part.get_config() == parts[name].get_config()
        networks.assert_same(
            networks.snapshot(part), networks.snapshot(parts[name])
        )
    config, old = resumed.get_config(), trainer.get_config()
    for name in config:
        assert name in NAMES or config[name] == old[name]
    ours = resumed.train_on_batch(x, y)
    assert ours == pytest.approx(trainer.train_on_batch(x, y), rel=1e-5)
    for name in ("student", "teacher"):
        for a, b in zip(
            getattr(resumed, name).get_weights(),
            getattr(trainer, name).get_weights(),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    before = networks.snapshot(trainer)
    assert np.isfinite(trainer.test_on_batch(x, y)).all()
    networks.assert_same(before, networks.snapshot(trainer))


def weights_of(trainer):
    return [*trainer.student.get_weights(), *trainer.teacher.get_weights()]


def test_a_later_fit_takes_over_the_optimizers(batch):
    """Its momentum and steps, as with one optimizer."""
    x, y = (array[:16] for array in batch)
    models, _ = parity.twins(*NAMES)
    first = small(models, teacher_start=0.0)
    first.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    first.train_on_batch(x, y)
    second = small(models, teacher_start=0.0)
    second.compile(first.optimizer)
    assert second.optimizer is first.optimizer
    before = weights_of(second)
    second.train_on_batch(x, y)
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(before, weights_of(second), strict=True)
    ]
    assert all(moved)
    parts = second.optimizer.parts.values()
    assert [int(part.iterations) for part in parts] == [2, 2]


def test_callbacks_change_the_students_learning_rate(batch, tmp_path):
    x, y = (array[:16] for array in batch)
    models, _ = parity.twins(*NAMES)
    trainer = small(models)
    trainer.compile("sgd", teacher_optimizer=keras.optimizers.SGD(0.05))
    plateau = keras.callbacks.ReduceLROnPlateau(
        "loss", factor=0.5, patience=1, min_delta=100.0
    )
    scheduler = keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: 0.4 if epoch == 0 else rate
    )
    board = keras.callbacks.TensorBoard(tmp_path)
    history = trainer.fit(
        x, y, epochs=3, callbacks=[scheduler, plateau, board], verbose=0
    )
    rates = history.history["learning_rate"]
    np.testing.assert_allclose(rates, [0.4, 0.4, 0.2], rtol=1e-6)
    parts = trainer.optimizer.parts
    assert float(parts["teacher"].learning_rate) == pytest.approx(0.05)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_weight_perturbation_and_float16(batch, policy):
    x, y = (array[:16] for array in batch)
    models, _ = parity.twins(*NAMES)
    if policy == "mixed_float16":
        models = {
            name: in_float16(model) if name == "teacher" else model
            for name, model in models.items()
        }
    trainer = small(models, teacher_start=0.0, weight_perturbation=0.01)
    trainer.compile(keras.optimizers.SGD(0.1))
    scaled = isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    again = small(models, teacher_start=0.0)
    again.compile(trainer.optimizer)
    assert again.optimizer is trainer.optimizer
    before = weights_of(trainer)
    # The scale falls until no gradient overflows.
    losses = [trainer.train_on_batch(x, y) for _ in range(1 + 3 * scaled)]
    assert np.isfinite(losses).all()
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(before, weights_of(trainer), strict=True)
    ]
    assert all(moved)


def in_float16(model):
    return keras_adaad.models.with_dtype(model, "mixed_float16")


@pytest.mark.once
def test_the_published_optimizer_of_the_teacher_is_the_default():
    models, _ = parity.twins(*NAMES)
    trainer = small(models)
    trainer.compile("sgd")
    config = trainer.optimizer.parts["teacher"].get_config()
    assert config["learning_rate"] == pytest.approx(1e-4)
    assert (config["momentum"], config["weight_decay"]) == (0.1, 2e-4)
    # The first step is in epoch 51 of 300, counted from 1.
    for epoch, learns in ((0, False), (49, False), (50, True), (299, True)):
        trainer.start_epoch(epoch, 300)
        assert trainer.teacher_learns == learns


@pytest.mark.once
def test_temperatures_stop_after_214_of_300_epochs():
    models, _ = parity.twins(*NAMES)
    trainer = small(models)
    for epoch, rate in ((0, 0.001), (213, 0.001), (214, 0.0), (299, 0.0)):
        trainer.start_epoch(epoch, 300)
        assert float(trainer._temperature_rate()) == pytest.approx(rate)


@pytest.mark.once
def test_bad_optimizers_are_named():
    models, _ = parity.twins(*NAMES)
    trainer = small(models)
    with pytest.raises(TypeError, match="'teacher' must be"):
        trainer.compile("sgd", teacher_optimizer=0.1)
    with pytest.raises(ValueError, match="'student' can't have `use_ema`"):
        trainer.compile(keras.optimizers.SGD(0.1, use_ema=True))
    optimizer = PerNetwork({"student": "sgd", "teacher": "sgd"})
    with pytest.raises(ValueError, match="teacher_optimizer="):
        trainer.compile(optimizer, teacher_optimizer="sgd")
    with pytest.raises(ValueError, match="student's optimizer must be the fi"):
        trainer.compile(PerNetwork({"teacher": "sgd", "student": "sgd"}))
    trainer.compile(PerNetwork({"student": "sgd", "peer": "sgd"}))
    with pytest.raises(ValueError, match="must have the same names"):
        trainer.optimizer.build(trainer.trainable_variables)


@pytest.mark.once
def test_bad_networks_are_named(batch):
    models, _ = parity.twins(*NAMES)
    teacher, student = models["teacher"], models["student"]
    clean_teacher = models["clean_teacher"]
    with pytest.raises(TypeError, match="clean_teacher"):
        CIARD(teacher, student)
    with pytest.raises(TypeError, match="`clean_teacher` must be"):
        CIARD(teacher, student, clean_teacher=None)
    with pytest.raises(TypeError, match="`teacher` must be"):
        CIARD(None, student, clean_teacher=clean_teacher)
    with pytest.raises(ValueError, match="`clean_teacher` and `student`"):
        CIARD(teacher, student, clean_teacher=student)
    with pytest.raises(ValueError, match="`teacher` and `student`"):
        CIARD(student, student, clean_teacher=clean_teacher)
    with pytest.raises(ValueError, match="`clean_teacher` share weights"):
        CIARD(teacher, student, clean_teacher=teacher)
    trainer = small(models)
    trainer.compile("sgd")
    with pytest.raises(ValueError, match="needs labels"):
        trainer.fit(batch[0], verbose=0)
    teacher.trainable = False
    with pytest.raises(ValueError, match="'teacher' can't be trained"):
        trainer.fit(*batch, verbose=0)
    teacher.trainable = clean_teacher.trainable = True
    trainer.train_on_batch(batch[0][:4], batch[1][:4])
    assert not clean_teacher.trainable


@pytest.mark.once
@pytest.mark.parametrize(
    "argument, value",
    [
        ("push", -1.0),
        ("push_temperature", 0.0),
        ("temperature_rate", -0.1),
        ("max_temperature", 0.5),
        ("temperature_end", 1.1),
        ("teacher_start", -0.1),
        ("teacher_start", 1.1),
        ("reduction", "sum"),
    ],
)
def test_bad_arguments_are_named(argument, value):
    models, _ = parity.twins(*NAMES)
    with pytest.raises(ValueError, match=f"`{argument}"):
        CIARD(**models, **{argument: value})
