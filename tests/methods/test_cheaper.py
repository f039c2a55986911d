"""AdaAD with a cheaper attack: a linear teacher, fewer steps early."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import keras_adaad
from benchmarks import methods
from keras_adaad.attacks import APGD
from keras_adaad.attacks import PGD
from keras_adaad.callbacks import AttackSteps
from keras_adaad.linear_teacher import log_odds_of_first_class
from tests import networks
from tests.methods import parity
from tests.methods import transcriptions_stateful as transcriptions


def linear(teacher, student, attack=None):
    return keras_adaad.AdaAD(
        teacher, student, attack, teacher_in_attack="linear"
    )


# The linear teacher.


def attack_in_pytorch(follow=lambda change: change):
    """AdaAD's attack with the log-odds of the first class made linear."""

    def attack(modules, x, y, noise):
        leaf = x.clone().requires_grad_(True)
        logits = modules["teacher"](leaf)
        first = logits.argmax(1)
        likeliest = F.softmax(logits.double(), 1).gather(1, first[:, None])
        (slope,) = torch.autograd.grad(torch.logit(likeliest).sum(), leaf)

        def disagreement(x_adv):
            target = logits.detach().clone()
            change = (slope * (x_adv - x)).flatten(1).sum(1)
            target[torch.arange(len(x)), first] += follow(change)
            return transcriptions.divergence(target, modules["student"](x_adv))

        return transcriptions.ascend(modules, disagreement, x, noise)

    return attack


def loss_in_pytorch(modules, x, x_adv, y):
    modules["student"](x)
    return transcriptions.divergence(
        transcriptions.target(modules, x_adv), modules["student"](x_adv)
    ).mean()


def test_step_is_the_transcription(batch, noise):
    models, modules = parity.twins("teacher", "student")
    parity.compare_step(
        linear(**models),
        modules,
        attack_in_pytorch(),
        loss_in_pytorch,
        *batch,
        noise,
    )


def test_gradient_flows_through_the_change(batch, noise):
    models, modules = parity.twins("teacher", "student")
    x, y = batch
    data = parity.to_torch(x), torch.tensor(y), parity.to_torch(noise)
    x_adv = linear(**models).perturb(x, noise=noise)
    for wrong in (torch.zeros_like, torch.detach):
        expected = attack_in_pytorch(wrong)(modules, *data)
        same = np.abs(x_adv - parity.to_keras(expected)) < 1e-5
        assert same.mean() < 0.99, wrong


def two_classes(activation):
    inputs = keras.Input(networks.SHAPE)
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(16, activation)(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def test_is_exact_for_a_linear_teacher_of_two_classes(batch):
    x, _ = batch
    attack = PGD(epsilon=0.1, steps=5, start=None)
    teacher, student = two_classes(None), two_classes("tanh")
    exact = keras_adaad.AdaAD(teacher, student, attack).perturb(x)
    fixed = keras_adaad.RSLAD(teacher, student, attack).perturb(x, noise=None)
    found = linear(teacher, student, attack).perturb(x)
    assert (np.abs(found - exact) < 1e-5).mean() >= 0.999
    assert (np.abs(fixed - exact) < 1e-5).mean() < 0.9


def test_log_odds():
    logits = np.array([[1.0, 2.0, 0.5], [300.0, 0.0, -300.0]], "float32")
    values, first = log_odds_of_first_class(keras.ops.convert_to_tensor(logits))
    p = np.exp(2.0) / np.exp(logits[0].astype("float64")).sum()
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(values),
        [np.log(p / (1 - p)), 300.0],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(first), [[0, 1, 0], [1, 0, 0]]
    )


def test_teacher_runs_twice_per_step():
    def make(teacher, _, student):
        return linear(teacher, student)

    # Eleven times with the exact one: see the README's table of methods.
    assert methods._passes(make) == (12, 2)


def test_is_saved(batch, tmp_path):
    x, _ = batch
    distiller = linear(
        networks.dense_net("teacher"),
        networks.dense_net("student"),
        PGD(epsilon=0.1, steps=2, start=None),
    )
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    assert loaded.teacher_in_attack == "linear"
    np.testing.assert_allclose(
        loaded.perturb(x), distiller.perturb(x), atol=1e-6
    )


def test_unknown_teacher():
    with pytest.raises(ValueError, match="teacher_in_attack='fast'"):
        keras_adaad.AdaAD(
            networks.dense_net(),
            networks.dense_net(),
            teacher_in_attack="fast",
        )


# The number of steps.


def distiller_of(student, steps, epsilon=0.4):
    attack = PGD(
        epsilon=epsilon,
        step_size=min(1.0, 2.5 / steps) * epsilon,
        steps=steps,
        start=None,
    )
    keras.utils.set_random_seed(1)
    teacher = networks.dense_net("teacher")
    distiller = keras_adaad.AdaAD(teacher, student, attack)
    distiller.compile(keras.optimizers.SGD(0.5))
    return distiller


def new_student():
    keras.utils.set_random_seed(2)
    return networks.dense_net("student")


def fit(distiller, x, epochs, callbacks=()):
    distiller.fit(
        x,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        callbacks=list(callbacks),
        verbose=0,
    )
    return distiller.student.get_weights()


def difference(weights, others):
    return max(
        np.abs(a - b).max() for a, b in zip(weights, others, strict=True)
    )


def test_compiled_steps_follow_the_schedule(batch):
    x, _ = batch
    student = new_student()
    for steps in (1, 4):
        expected = fit(distiller_of(student, steps), x, 1)

    distiller = distiller_of(new_student(), 2)
    before = distiller.perturb(x)
    found = fit(distiller, x, 2, [AttackSteps({0: 1, 1: 4})])
    assert difference(found, expected) < 1e-5
    assert (distiller.attack.steps, distiller.attack.step_size) == (4, 0.25)
    # `perturb`, compiled for the attack before, is compiled for the new one.
    distiller.student.set_weights(new_student().get_weights())
    after = distiller.perturb(x)
    four = distiller_of(new_student(), 4).perturb(x)
    np.testing.assert_allclose(after, four, atol=1e-5)
    assert np.abs(after - before).max() > 1e-3


def test_student_runs_follow_the_schedule():
    distiller = keras_adaad.AdaAD(
        methods._counted_network("teacher"), methods._counted_network("student")
    )
    distiller.compile("sgd", run_eagerly=True)
    x = np.random.default_rng(0).uniform(size=(4, 4, 4, 1)).astype("float32")
    runs = []

    class Count(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            methods._RUNS.clear()

        def on_epoch_end(self, epoch, logs=None):
            runs.append(methods._RUNS["student"])

    distiller.fit(
        x,
        batch_size=4,
        epochs=4,
        callbacks=[AttackSteps({0: 1, 3: 4, 1: 2}), Count()],
        verbose=0,
    )
    # And two in training mode.
    assert runs == [3, 4, 4, 6]


class _Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_resumed_run_has_the_right_steps(batch, tmp_path):
    x, _ = batch
    schedule = {0: 1, 1: 4}
    whole = fit(distiller_of(new_student(), 10), x, 3, [AttackSteps(schedule)])

    def run(*more):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        distiller = distiller_of(new_student(), 10)
        return fit(distiller, x, 3, [AttackSteps(schedule), backup, *more])

    with pytest.raises(KeyboardInterrupt):
        run(_Stop())
    assert difference(run(), whole) < 1e-6


@pytest.mark.parametrize(
    "schedule, error, message",
    [
        ([3, 10], TypeError, "must be a dict"),
        ({}, ValueError, "epoch 0"),
        ({5: 3}, ValueError, "epoch 0"),
        ({0: 0}, ValueError, r"schedule\[0\]=0"),
        ({0: 2.5}, TypeError, r"schedule\[0\]=2.5"),
        ({0: 3, -1: 3}, ValueError, "schedule=-1"),
    ],
)
def test_bad_schedules(schedule, error, message):
    with pytest.raises(error, match=message):
        AttackSteps(schedule)


def test_other_attacks_and_models(batch):
    x, y = batch
    with_apgd = keras_adaad.AdaAD(
        networks.dense_net(), networks.dense_net(), APGD(epsilon=0.1, steps=3)
    )
    with_apgd.compile("sgd")
    plain = networks.dense_net()
    plain.compile("sgd", "sparse_categorical_crossentropy")
    for model in (with_apgd, plain):
        with pytest.raises(TypeError, match=r"`AttackSteps` needs"):
            model.fit(x, y, callbacks=[AttackSteps({0: 3})], verbose=0)
