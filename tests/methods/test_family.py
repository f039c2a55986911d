"""TRADES, ARD and their relatives against PyTorch, and saved mid-way."""

import functools

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad.attacks import PGD
from keras_adaad.methods.adaiad import AdaIAD
from keras_adaad.methods.akd import AKD
from keras_adaad.methods.ard import ARD
from keras_adaad.methods.iad import IAD
from keras_adaad.methods.iad import IADII
from keras_adaad.methods.rslad import RSLAD
from keras_adaad.methods.trades import TRADES
from tests import networks
from tests.methods import parity
from tests.oracles import methods as torch_methods
from tests.parameters import once_except

ATTACKS = {
    TRADES: torch_methods.trades_attack,
    AKD: functools.partial(torch_methods.cross_entropy_attack, steps=7),
    ARD: torch_methods.cross_entropy_attack,
    IAD: torch_methods.cross_entropy_attack,
    IADII: torch_methods.cross_entropy_attack,
    RSLAD: torch_methods.rslad_attack,
    AdaIAD: torch_methods.adaiad_attack,
}

LOSSES = {
    TRADES: torch_methods.trades_loss,
    AKD: torch_methods.akd_loss,
    ARD: torch_methods.ard_loss,
    IAD: torch_methods.iad_loss,
    IADII: torch_methods.iad2_loss,
    RSLAD: torch_methods.rslad_loss,
    AdaIAD: torch_methods.adaiad_loss,
}

# (method, epoch if the loss depends on it, arguments). Without arguments: the
# published defaults.
CASES = [
    (TRADES, None, {}),
    (TRADES, None, {"beta": 1.0}),
    (AKD, None, {}),
    (AKD, None, {"alpha": 0.8}),
    (ARD, None, {}),
    (ARD, None, {"alpha": 0.7, "temperature": 2.0, "reduction": "mean"}),
    (RSLAD, None, {}),
    (RSLAD, None, {"alpha": 0.4, "reduction": "mean", "scale": 10.0}),
    (IAD, 60, {}),
    (IAD, 59, {"alpha": 0.7, "temperature": 2.0}),
    (IADII, 39, {}),
    (IADII, 40, {"clean_alpha": 0.1, "beta": 0.5, "temperature": 2.0}),
    (AdaIAD, 59, {}),
    (AdaIAD, 60, {"alpha": 0.7, "beta": 0.5, "temperature": 1.0}),
]

# Epsilon, step size, steps and start, for inputs in [0, 1].
PUBLISHED_ATTACKS = {
    TRADES: (0.031, 0.007, 10, "normal"),
    AKD: (8 / 255, 2 / 255, 7, "uniform"),
    ARD: (8 / 255, 2 / 255, 10, "uniform"),
    IAD: (8 / 255, 2 / 255, 10, "uniform"),
    IADII: (8 / 255, 2 / 255, 10, "uniform"),
    RSLAD: (8 / 255, 2 / 255, 10, "normal"),
    AdaIAD: (8 / 255, 2 / 255, 10, "normal"),
}


def build(method, **options):
    """Returns a method over its networks, and their PyTorch copies."""
    names = ["student"]
    if method is not TRADES:
        names.append("teacher")
    if method is IADII:
        names.append("clean_teacher")
    models, modules = parity.twins(*names)
    return method(**models, **options), modules


def of_two_steps(method):
    """The published attack, shortened: JAX unrolls and compiles each step."""
    published = method.published_attack((0.0, 1.0)).get_config()
    return PGD.from_config({**published, "steps": 2})


@pytest.mark.parametrize("method, epoch, options", CASES)
def test_step_is_the_transcription(batch, noise, method, epoch, options):
    x, y = batch
    trainer, modules = build(method, **options)
    loss = functools.partial(LOSSES[method], **options)
    if epoch is not None:
        trainer.epoch.assign(epoch)
        loss = functools.partial(loss, epoch=epoch)
    # A start that leaves both the ball and the range of the pixels.
    noise = 20 * noise
    parity.compare_step(trainer, modules, ATTACKS[method], loss, x, y, noise)


# (method, epoch, loss) as in the code, BatchNorm's part in the attack included.
REFERENCE_CASES = [
    (ARD, None, torch_methods.ard_loss),
    (IAD, 59, torch_methods.iad_reference_loss),
    (IAD, 60, torch_methods.iad_reference_loss),
    (IADII, 39, torch_methods.iad2_reference_loss),
    (IADII, 40, torch_methods.iad2_reference_loss),
    (AdaIAD, 59, torch_methods.adaiad_reference_loss),
    (AdaIAD, 60, torch_methods.adaiad_reference_loss),
]


@pytest.mark.parametrize("method, epoch, loss", REFERENCE_CASES)
def test_reference_passes_are_those_of_the_code(
    batch, noise, method, epoch, loss
):
    trainer, modules = build(method, reference_passes=True)
    if epoch is not None:
        trainer.epoch.assign(epoch)
        loss = functools.partial(loss, epoch=epoch)
    attack = torch_methods.training_mode_attack
    if method is AdaIAD:
        attack = torch_methods.adaiad_attack
    parity.compare_step(trainer, modules, attack, loss, *batch, noise)


@pytest.mark.once
@pytest.mark.parametrize("method", PUBLISHED_ATTACKS)
def test_published_attack(method):
    epsilon, step_size, steps, start = PUBLISHED_ATTACKS[method]
    for low, high in [(0.0, 1.0), (-1.0, 2.0)]:
        attack = method.published_attack((low, high))
        assert attack.epsilon == pytest.approx((high - low) * epsilon)
        assert attack.step_size == pytest.approx((high - low) * step_size)
        assert (attack.steps, attack.start) == (steps, start)
        assert not attack.clip_start
        assert attack.start_scale == pytest.approx((high - low) * 0.001)


OPTIONS = {case[0].__name__: case[2] for case in CASES}


@pytest.mark.parametrize("name", once_except(OPTIONS, "TRADES", "AdaIAD"))
def test_next_step_after_a_load_is_the_same(batch, tmp_path, name):
    method, options = getattr(keras_adaad, name), OPTIONS[name]
    x, y = batch
    x, y = x[:16], np.eye(10, dtype="float32")[y[:16]]
    trainer, _ = build(method, seed=3, attack=of_two_steps(method), **options)
    trainer.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    trainer.epoch.assign(60)
    trainer.train_on_batch(x, y)
    trainer.save(tmp_path / "trainer.keras")
    restored = keras.models.load_model(tmp_path / "trainer.keras")
    logs = [model.train_on_batch(x, y) for model in (trainer, restored)]
    np.testing.assert_array_equal(*logs)
    networks.assert_same(
        networks.snapshot(trainer), networks.snapshot(restored)
    )


@pytest.mark.once
@pytest.mark.parametrize(
    "method, options, message",
    [
        (TRADES, {"beta": -1.0}, "`beta`"),
        (AKD, {"alpha": 1.1}, "`alpha`"),
        (ARD, {"alpha": 1.5}, "`alpha`"),
        (ARD, {"temperature": 0.0}, "`temperature`"),
        (ARD, {"reduction": "sum"}, "`reduction`"),
        (RSLAD, {"alpha": -0.1}, "`alpha`"),
        (RSLAD, {"scale": 0.0}, "`scale`"),
        (RSLAD, {"reduction": None}, "`reduction`"),
        (IAD, {"beta": float("nan")}, "`beta`"),
        (IAD, {"begin_epoch": -1}, "`begin_epoch`"),
        (IADII, {"alpha": 0.8}, "`alpha` and `clean_alpha`"),
        (AdaIAD, {"temperature": -1.0}, "`temperature`"),
        (
            ARD,
            {
                "reference_passes": True,
                "attack": PGD(epsilon=0.1, restarts=2),
            },
            "`reference_passes=True`",
        ),
    ],
)
def test_bad_arguments(method, options, message):
    with pytest.raises(ValueError, match=message):
        build(method, **options)


@pytest.mark.once
def test_iad2_needs_its_second_teacher():
    models, _ = parity.twins("teacher", "student")
    with pytest.raises(TypeError, match="clean_teacher"):
        IADII(**models)
    with pytest.raises(ValueError, match="`clean_teacher` and `student`"):
        IADII(**models, clean_teacher=models["student"])


@pytest.mark.once
@pytest.mark.parametrize("method", [TRADES, AKD, ARD, IAD, IADII, AdaIAD])
def test_labels_are_needed(batch, method):
    trainer, _ = build(method)
    trainer.compile("sgd")
    with pytest.raises(ValueError, match=f"{method.__name__} needs labels"):
        trainer.fit(batch[0], verbose=0)


def test_rslad_needs_no_labels(batch):
    trainer, _ = build(RSLAD, attack=of_two_steps(RSLAD))
    trainer.compile("sgd")
    trainer.train_on_batch(batch[0][:8])
