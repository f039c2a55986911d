"""AdaAD against the paper's algorithm in plain PyTorch."""

import warnings

import keras
import numpy as np
import pytest
import torch

import keras_adaad
from benchmarks import reference
from keras_adaad.training import teacher_check
from tests import networks
from tests.parameters import once_except


def twins():
    teacher, student = networks.teacher_net(), networks.student_net()
    return (
        teacher,
        student,
        reference.copy_weights(teacher, reference.ConvNet((16, 24))).eval(),
        reference.copy_weights(student, reference.ConvNet((8, 12))),
    )


def to_torch(x):
    return torch.tensor(np.transpose(x, (0, 3, 1, 2)).copy())


def to_keras(x):
    return np.transpose(x.detach().numpy(), (0, 2, 3, 1))


def divergence(teacher, student, x):
    x = to_torch(x)
    student.eval()
    with torch.no_grad():
        return reference.kl_divergence(teacher(x), student(x), "batchmean")


@pytest.mark.parametrize("epsilon", [8 / 255, 0.1])
def test_attack_is_the_references(batch, noise, epsilon):
    teacher, student, torch_teacher, torch_student = twins()
    attack = keras_adaad.attacks.PGD(
        epsilon=epsilon,
        step_size=epsilon / 4,
        steps=10,
        start="normal",
        clip_start=False,
    )
    x_adv = keras_adaad.AdaAD(teacher, student, attack).perturb(
        batch[0], noise=noise
    )
    expected = reference.adaad_attack(
        torch_teacher,
        torch_student,
        to_torch(batch[0]),
        to_torch(noise),
        epsilon,
        epsilon / 4,
    )
    same = np.abs(x_adv - to_keras(expected)) < 1e-5
    assert same.mean() >= 0.999
    ours = divergence(torch_teacher, torch_student, x_adv)
    theirs = divergence(torch_teacher, torch_student, to_keras(expected))
    assert float(ours) == pytest.approx(float(theirs), rel=1e-3)


def test_default_attack_is_the_papers(batch, noise):
    teacher, student, torch_teacher, torch_student = twins()
    x_adv = keras_adaad.AdaAD(teacher, student).perturb(batch[0], noise=noise)
    expected = reference.adaad_attack(
        torch_teacher, torch_student, to_torch(batch[0]), to_torch(noise)
    )
    assert (np.abs(x_adv - to_keras(expected)) < 1e-5).mean() >= 0.999


def test_attack_differentiates_through_the_teacher(batch, noise):
    """Fails if someone detaches the teacher's moving target."""
    teacher, student, torch_teacher, torch_student = twins()
    x_adv = keras_adaad.AdaAD(teacher, student).perturb(batch[0], noise=noise)
    wrong = reference.adaad_attack(
        torch_teacher,
        torch_student,
        to_torch(batch[0]),
        to_torch(noise),
        detach_teacher=True,
    )
    same = np.abs(x_adv - to_keras(wrong)) < 1e-5
    assert same.mean() < 0.9


@pytest.mark.parametrize("alpha", [1.0, 0.7])
@pytest.mark.parametrize("reduction", ["batchmean", "mean"])
def test_step_is_the_references(batch, alpha, reduction):
    x, y = batch
    teacher, student, torch_teacher, torch_student = twins()
    starts = {layer.name: layer.get_weights() for layer in student.layers}
    attack = keras_adaad.attacks.PGD(
        epsilon=8 / 255, step_size=2 / 255, steps=10, start=None
    )
    distiller = keras_adaad.AdaAD(
        teacher, student, attack, alpha=alpha, reduction=reduction
    )
    distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    logs = distiller.train_on_batch(x, y, return_dict=True)

    optimizer = torch.optim.SGD(torch_student.parameters(), 0.1, momentum=0.9)
    _, loss = reference.adaad_step(
        torch_teacher,
        torch_student,
        optimizer,
        to_torch(x),
        torch.zeros(32, 1, 8, 8),
        alpha,
        reduction,
    )
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-3)
    for name, child in torch_student.named_children():
        ours = student.get_layer(name).get_weights()
        theirs = list(child.state_dict().values())[: len(ours)]
        for value, target, start in zip(
            ours, theirs, starts[name], strict=True
        ):
            target = target.numpy()
            if target.ndim == 4:
                target = target.transpose(2, 3, 1, 0)
            elif target.ndim == 2:
                target = target.T
            assert relative_error(value, target) < 1e-3, name
            if not name.startswith("bn"):
                update = relative_error(value - start, target - start)
                assert update < 1e-3, name


def relative_error(value, target):
    return np.linalg.norm(value - target) / np.linalg.norm(target)


def test_loss_needs_no_labels(digits):
    x = digits[0][:64]
    distiller = keras_adaad.AdaAD(
        networks.teacher_net(),
        networks.student_net(),
        keras_adaad.attacks.PGD(epsilon=0.1, steps=1),
    )
    distiller.compile("sgd", metrics=["accuracy"])
    history = distiller.fit(x, batch_size=32, verbose=0).history
    assert set(history) == {"loss"}
    assert np.isfinite(history["loss"]).all()


def test_temperature_is_that_of_hinton(batch):
    x, y = batch
    teacher, student, torch_teacher, torch_student = twins()
    distiller = keras_adaad.AdaAD(
        teacher, student, temperature=3.0, evaluation_attack=None
    )
    distiller.compile()
    loss = distiller.evaluate(x, y, verbose=0)
    torch_student.eval()
    with torch.no_grad():
        expected = 9.0 * reference.kl_divergence(
            torch_teacher(to_torch(x)) / 3.0,
            torch_student(to_torch(x)) / 3.0,
            "batchmean",
        )
    assert loss == pytest.approx(float(expected), rel=1e-4)


@pytest.fixture(scope="module")
def accurate_weights(digits):
    """Weights of a teacher that is accurate and not robust."""
    teacher = networks.teacher_net()
    teacher.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(*digits, batch_size=128, epochs=5, verbose=0)
    return teacher.get_weights()


def train_five_epochs(weights, x, y, epsilon):
    """Returns the student, and the warnings of the check."""
    keras.utils.set_random_seed(0)
    teacher, student = networks.teacher_net(), networks.student_net()
    teacher.set_weights(weights)
    attack = keras_adaad.attacks.PGD(
        epsilon=epsilon, step_size=epsilon / 2, steps=2
    )
    distiller = keras_adaad.AdaAD(
        teacher, student, attack, evaluation_attack=None
    )
    distiller.compile(
        keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"]
    )
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        distiller.fit(x, y, epochs=5, verbose=0)
    texts = [str(w.message) for w in found]
    return student, [text for text in texts if "searches further" in text]


@pytest.mark.filterwarnings("ignore:Argument `attack`. epsilon 1 reaches")
@pytest.mark.parametrize(
    "labels", once_except(["none", "index", "one-hot"], "none")
)
def test_fit_warns_if_the_teacher_is_wrong_within_epsilon(
    digits, labels, accurate_weights, monkeypatch
):
    x, y = (part[:256] for part in digits)
    y = {"none": None, "index": y, "one-hot": np.eye(10)[y]}[labels]
    warned, (text,) = train_five_epochs(accurate_weights, x, y, 1.0)
    assert "Of 64 training images the teacher classifies" in text
    assert "Received: attack.epsilon=1.0" in text
    if labels == "none":
        assert not train_five_epochs(accurate_weights, x, y, 0.01)[1]
        # The check has no effect on the training.
        monkeypatch.setattr(teacher_check, "EPOCHS", 6)
        silent, found = train_five_epochs(accurate_weights, x, y, 1.0)
        assert not found
        networks.assert_same(warned.get_weights(), silent.get_weights())


@pytest.mark.once
def test_fit_warns_if_the_teacher_guesses():
    text = "8 of 64 .* no better than a guess .* crop and flip"
    with pytest.warns(UserWarning, match=text):
        teacher_check.warn_of_chance(8, 64, 10)
    teacher_check.warn_of_chance(12, 64, 10)  # Raises nothing.
    teacher_check.warn_of_chance(40, 64, 2)
