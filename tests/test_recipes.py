"""The recipes against the classes, and against the published schedules."""

import dataclasses
import importlib
import inspect
import math
import pkgutil

import keras
import numpy as np
import pytest

from keras_adaad import methods
from keras_adaad import models
from keras_adaad import recipes
from keras_adaad import zoo
from keras_adaad.recipes import results
from keras_adaad.training.adversarial_training import AdversarialTraining
from tests import networks


def method_classes():
    """Returns the classes of the package's methods by name."""
    classes = {}
    for module in pkgutil.iter_modules(methods.__path__):
        module = importlib.import_module(f"{methods.__name__}.{module.name}")
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if own and inspect.isclass(value):
                classes[name] = value
    return classes


CLASSES = method_classes()
PAIRS = recipes.list_recipes()


@pytest.mark.once
def test_every_method_has_a_recipe():
    # Parts of methods.
    parts = {"EntropyWeighting", "SumsOfEpochs"}
    # Published for signals alone.
    parts |= {"AKD"}
    names = set(CLASSES) - parts | {"AdaAD-generated"}
    assert names == {name for name, _ in PAIRS}
    assert len(set(PAIRS)) == len(PAIRS)
    assert ("SAAD", "tiny_imagenet") in recipes.list_recipes("tiny_imagenet")


@pytest.mark.once
@pytest.mark.parametrize(("name", "dataset"), PAIRS)
def test_method_takes_the_recipe(name, dataset):
    recipe = recipes.get(name, dataset)
    method = CLASSES[recipe.method]
    assert issubclass(method, AdversarialTraining)
    needed = {
        argument
        for base in method.__mro__
        for argument in inspect.signature(base.__init__).parameters
    }
    teachers = {
        argument: networks.dense_net(argument)
        for argument in ("teacher", "clean_teacher", "peer")
        if argument in needed
    }
    trainer = method(
        student=networks.dense_net("student"),
        **teachers,
        **recipe.arguments(seed=3),
    )
    config = trainer.get_config()
    for argument, value in recipe.constructor.items():
        assert config[argument] == pytest.approx(value), argument
    if recipe.igdm is not None:
        (igdm,) = trainer.regularizers
        assert igdm.get_config() == recipe.igdm

    # The class and the recipe state the same attack, from scale to clipping.
    published = method.published_attack((0.0, 1.0)).get_config()
    assert recipe.attack(seed=published["seed"]).get_config() == {
        key: pytest.approx(value) if isinstance(value, float) else value
        for key, value in published.items()
    }
    if recipe.student is not None:
        network, *size = recipe.student.split("-")
        assert inspect.isfunction(getattr(models, network))
        assert size in ([], ["34", "10"])
    if recipe.teacher is not None:
        zoo.entry(recipe.teacher, dataset, "Linf")


# The learning rate at an epoch, as the reference code computes it.


def adaad_rate(epoch):
    return 0.1 if epoch < 100 else 0.01 if epoch < 150 else 0.001


def pgdat_rate(epoch):
    return 0.1 if epoch < 100 else 0.01 if epoch < 105 else 0.001


def trades_rate(epoch):
    return 0.1 if epoch + 1 < 75 else 0.01


def ard_rate(epoch):
    rate = 0.1
    if epoch >= 100:
        rate = 0.1 * 0.1
    if epoch >= 150:
        rate = 0.1 * 0.1
    return rate


def dkl_rate(epoch):
    return 0.2 * 0.5 * (1.0 + math.cos(math.pi * (epoch + 1) / 201))


def generated_rate(epoch):
    return 0.2 * 0.5 * (1.0 + math.cos(math.pi * (epoch + 1) / 401))


def rslad_rate(epoch):
    return 0.1 * 0.1 ** sum(epoch >= drop for drop in (215, 260, 285))


def peeraid_rate(epoch):
    return 0.1 * 0.1 ** sum(epoch >= drop for drop in (214, 259, 284))


def peeraid_short_rate(epoch):
    return 0.1 * 0.1 ** sum(epoch >= drop for drop in (99, 149))


def falling(rate, share):
    cosine = 0.5 + 0.5 * np.cos(np.pi * share)
    return rate * cosine * np.exp(-0.01 * share**2)


def ciard_rate(epoch):
    counted = epoch + 1  # From 1, in the code.
    return 0.1 if counted < 150 else falling(0.1, (counted - 150) / 150)


# Epochs, weight decay, batch size, and the rate; None for any data set.
PUBLISHED = {
    ("AdaAD", None): (200, 5e-4, 128, adaad_rate),
    ("AdaAD-generated", None): (400, 5e-4, 512, generated_rate),
    ("AdaIAD", None): (200, 5e-4, 128, adaad_rate),
    ("CIARD", None): (300, 2e-4, 128, ciard_rate),
    ("DGAD", None): (200, 5e-4, 128, adaad_rate),
    ("ABSLD", None): (300, 2e-4, 128, rslad_rate),
    ("DKL", None): (200, 5e-4, 128, dkl_rate),
    ("PeerAiD", None): (300, 2e-4, 128, peeraid_rate),
    ("PeerAiD", "tiny_imagenet"): (200, 2e-4, 128, peeraid_short_rate),
    ("PGDAT", None): (110, 5e-4, 128, pgdat_rate),
    ("TRADES", "cifar10"): (76, 2e-4, 128, trades_rate),
    ("ARD", "cifar10"): (200, 2e-4, 128, ard_rate),
    ("ARD", "cifar100"): (200, 2e-4, 256, ard_rate),
    ("IAD", None): (200, 2e-4, 128, ard_rate),
    ("IADII", None): (200, 2e-4, 128, ard_rate),
    ("RSLAD", None): (300, 2e-4, 128, rslad_rate),
    ("MTARD", None): (300, 2e-4, 128, rslad_rate),
    ("BMTARD", None): (300, 2e-4, 128, rslad_rate),
    ("IGDM", None): (200, 2e-4, 128, adaad_rate),
    ("SAAD", None): (200, 2e-4, 128, adaad_rate),
}


@pytest.mark.once
@pytest.mark.parametrize(("name", "dataset"), PAIRS)
def test_optimizer(name, dataset):
    expected = PUBLISHED.get((name, dataset)) or PUBLISHED[name, None]
    epochs, weight_decay, batch_size, rate = expected
    recipe = recipes.get(name, dataset)
    assert (recipe.epochs, recipe.batch_size) == (epochs, batch_size)
    optimizer = recipe.optimizer(steps_per_epoch=7)
    config = optimizer.get_config()
    assert (config["momentum"], config["weight_decay"]) == (0.9, weight_decay)
    assert not config["nesterov"]
    schedule = keras.optimizers.schedules.deserialize(config["learning_rate"])
    changes = np.atleast_1d(getattr(recipe.schedule, "after", []))
    around = {int(change) + i for change in changes for i in (-1, 0, 1, 50)}
    for epoch in around & set(range(epochs)) | {0, 1, epochs - 1}:
        for step in (7 * epoch, 7 * epoch + 6):
            assert float(schedule(step)) == pytest.approx(rate(epoch))


@pytest.mark.once
def test_optimizer_of_a_teacher():
    recipe = recipes.get("CIARD", "cifar10")
    optimizer = recipe.teacher_optimizer(steps_per_epoch=7)
    config = optimizer.get_config()
    assert (config["momentum"], config["weight_decay"]) == (0.1, 2e-4)
    schedule = keras.optimizers.schedules.deserialize(config["learning_rate"])
    # It counts its own steps, which begin in epoch 51, counted from 1.
    for counted in (51, 52, 175, 299, 300):
        first = 7 * (counted - 51)
        for step in (first, first + 6):
            expected = falling(1e-4, (counted - 50) / 250)
            assert float(schedule(step)) == pytest.approx(expected)
    # 5 epochs: the first is without the teacher.
    short = recipe.teacher_optimizer(10, epochs=5).get_config()
    rates = short["learning_rate"]["config"]
    assert rates["boundaries"] == [9, 19, 29]
    expected = [falling(1e-4, share) for share in (0.25, 0.5, 0.75, 1.0)]
    np.testing.assert_allclose(rates["values"], expected, rtol=1e-6)
    one = recipe.teacher_optimizer(10, epochs=1)
    assert float(one.learning_rate) == pytest.approx(1e-4)
    assert recipes.get("MTARD", "cifar10").teacher_optimizer(10) is None
    assert recipe.with_epochs(20).schedule == recipes.LateCosine(10)


@pytest.mark.once
def test_other_lengths():
    recipe = recipes.get("AdaIAD", "cifar10").with_epochs(5)
    assert recipe.schedule == recipes.Drops((3, 4))
    assert recipe.constructor["begin_epoch"] == 2
    assert recipes.get("SAAD", "cifar10").with_epochs(20).average_from == 10
    same = recipes.get("RSLAD", "cifar10").with_epochs(300).schedule
    assert same == recipes.Drops((215, 260, 285))
    optimizer = recipes.get("AdaAD", "cifar10").optimizer(10, epochs=5)
    rates = optimizer.get_config()["learning_rate"]["config"]
    assert rates["boundaries"] == [29, 39]
    np.testing.assert_allclose(rates["values"], [0.1, 0.01, 0.001])
    short = recipes.get("DKL", "cifar10").optimizer(10, epochs=3)
    rates = short.get_config()["learning_rate"]["config"]
    assert rates["boundaries"] == [9, 19]
    np.testing.assert_allclose(
        rates["values"], [0.17071068, 0.1, 0.02928932], rtol=1e-6
    )
    # One epoch has one learning rate.
    for name in ("DKL", "AdaAD"):
        one = recipes.get(name, "cifar10").optimizer(10, epochs=1)
        assert one.get_config()["learning_rate"] == pytest.approx(0.1)


@pytest.mark.once
def test_other_epsilon():
    attack = recipes.get("TRADES", "cifar10").attack(epsilon=0.062, seed=1)
    assert attack.epsilon == pytest.approx(0.062)
    assert attack.step_size == pytest.approx(0.014)
    assert attack.seed == 1


@pytest.mark.once
def test_prints():
    text = str(recipes.get("AdaAD", "cifar10"))
    assert "AdaAD(alpha=1.0, reduction='mean')" in text
    assert "epsilon 8/255, step 2/255, normal start" in text
    assert "epochs      200\n  schedule    a tenth after 100, 150\n" in text
    assert "teacher     not known" in str(recipes.get("ARD", "cifar10"))
    assert "average     from epoch 94" in str(recipes.get("SAAD", "cifar100"))
    assert "student     WideResNet-34-10" in str(
        recipes.get("TRADES", "cifar10")
    )
    assert "epsilon 0.031" in str(recipes.get("TRADES", "cifar10"))
    assert "regularizers=[IGDM(weight=20.0" in str(
        recipes.get("IGDM", "cifar100")
    )
    text = str(recipes.get("AdaAD-generated", "cifar10"))
    assert "generated   70% of each batch, CutMix" in text
    assert "average     exponential, decay 0.995 per step" in text
    text = str(recipes.get("DKL", "cifar100"))
    assert "schedule    half a cosine\n" in text
    text = str(recipes.get("CIARD", "cifar10"))
    assert "half a cosine after 150, times exp(-0.01 p^2)\n" in text
    assert "  teacher SGD learning_rate=0.0001, momentum=0.1" in text
    assert "| DKL | cifar10 | 200 | half a cosine |" in recipes.table()
    assert len(recipes.table().splitlines()) == 2 + len(PAIRS)
    assert len(recipes.table("tiny_imagenet").splitlines()) == 4


@pytest.mark.once
@pytest.mark.parametrize(("name", "dataset"), PAIRS)
def test_each_prints_whole_sentences(name, dataset):
    *rows, notes = str(recipes.get(name, dataset)).partition("  source ")
    assert rows[0].splitlines()[0] == f"{name} on {dataset}"
    for note in notes.splitlines()[1:]:
        assert note.startswith("  - ") and note.endswith(".")
        assert len(note) > 20


@pytest.mark.once
def test_published_results_belong_to_recipes():
    found = [r for name, _ in PAIRS for r in recipes.published_results(name)]
    assert {(r.recipe, r.dataset) for r in found} <= set(PAIRS)
    lines = results.PATH.read_text().splitlines()
    assert len(lines) - 2 == len(set(found))
    for result in found:
        network, *_ = result.student.split("-")
        assert inspect.isfunction(getattr(models, network))
        if result.teacher is not None and " " not in result.teacher:
            zoo.entry(result.teacher, result.dataset, "Linf")
        assert 0.0 < result.robust_accuracy < (result.clean_accuracy or 100.0)
        assert result.attack in ("AutoAttack", "PGD-20")


@pytest.mark.once
def test_published_results_print():
    first, *others = recipes.published_results("AdaAD", "cifar10")
    assert str(first).startswith(
        "51.37 % under AutoAttack, 85.58 % clean (ResNet18, 200 epochs, "
        "teacher Chen2021LTD_WRN34_20): Huang et al., CVPR 2023"
    )
    assert f"  published   {first}\n  published   {others[0]}" in str(
        recipes.get("AdaAD", "cifar10")
    )
    assert {r.dataset for r in recipes.published_results("AdaAD")} == {
        "cifar10",
        "cifar100",
    }
    assert recipes.published_results("MTARD") == []


@pytest.mark.once
def test_bad_input():
    recipe = recipes.get("ARD", "cifar10")
    with pytest.raises(TypeError, match="`notes` must be a tuple"):
        dataclasses.replace(recipe, notes="A sentence.")
    with pytest.raises(TypeError, match="`after` must be a tuple"):
        recipes.Drops(100)
    with pytest.raises(ValueError, match="must be a pair of"):
        recipes.get("TRADES", "cifar100")
    with pytest.raises(ValueError, match="`epochs` must be at least 1"):
        recipes.get("ARD", "cifar10").with_epochs(0)
    with pytest.raises(TypeError, match="`steps_per_epoch` must be an integer"):
        recipes.get("ARD", "cifar10").optimizer(3.5)
