"""Files that earlier code has written load, and what they hold goes on.

`tests/saved_files/make.py` says what wrote them, and when.
"""

import json
import shutil
import zipfile

import keras
import numpy as np
import pytest

import keras_adaad
from tests.parameters import once_except
from tests.saved_files import observed
from tests.saved_files.observed import FOLDER

BACKEND = keras.backend.backend()


def read(name):
    return json.loads((FOLDER / name).read_text())


TRAINERS, ATTACKS = read("expected.json"), read("attacks.json")


def assert_kept(saved, now, place=""):
    """Compares all that was saved. More may have come, modules may move."""
    if isinstance(saved, dict):
        ignored = {"module", "shared_object_id"}
        if saved.get("class_name") == "function":
            # Another word from Keras 3.16 on, which nothing reads.
            ignored.add("registered_name")
        for key in saved.keys() - ignored:
            assert key in now, f"{place}.{key}"
            assert_kept(saved[key], now[key], f"{place}.{key}")
    elif isinstance(saved, list):
        assert len(saved) == len(now), place
        for i, (a, b) in enumerate(zip(saved, now, strict=True)):
            assert_kept(a, b, f"{place}[{i}]")
    else:
        assert saved == now, place


def plain(value):
    """Returns a value as JSON gives it back."""
    return json.loads(json.dumps(value))


def config_of(path):
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("config.json"))


@pytest.mark.parametrize("name", once_except(TRAINERS, "AdaAD", "SAAD"))
def test_a_trainer_goes_on(name):
    """TensorFlow wrote the file. One step is compared with its own backend's.

    The starts of the attack differ between backends. On one backend the
    numbers agree but for rounding.
    """
    path, expected = FOLDER / f"{name}.keras", TRAINERS[name]
    trainer = keras.models.load_model(path)
    assert type(trainer) is getattr(keras_adaad, name.split("-")[0])
    again = keras.saving.serialize_keras_object(trainer)
    assert_kept(config_of(path), plain(again))

    state = observed.state_of(trainer)
    np.testing.assert_allclose(
        state.pop("logits"), expected["logits"], rtol=1e-5, atol=1e-5
    )
    for key, value in state.items():
        assert value == expected[key], key

    step, expected = observed.step_of(trainer), expected["step"][BACKEND]
    assert step["logs"] == pytest.approx(expected["logs"], rel=1e-4)
    np.testing.assert_allclose(
        step["logits"], expected["logits"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.once
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_the_same(name):
    saved = ATTACKS[name]
    # A loss that is a function is found by its name alone.
    loss = keras_adaad.losses.margin_from_logits
    attack = keras.saving.deserialize_keras_object(
        saved, custom_objects={loss.__name__: loss}
    )
    assert type(attack) is getattr(keras_adaad.attacks, name.split("-")[0])
    assert_kept(saved["config"], plain(attack.get_config()))
    again = keras.saving.serialize_keras_object(attack)
    assert_kept(saved, plain(again))


@pytest.fixture
def saved_report():
    return keras_adaad.RobustnessReport.load(FOLDER / f"report-{BACKEND}.json")


def found(report):
    """Returns a report without times, versions and rounding."""
    values = report.to_dict()
    for key in ("seconds", "environment", "max_perturbation"):
        del values[key]
    for result in values["results"]:
        del result["seconds"]
    return values


def test_an_evaluation_goes_on(saved_report, tmp_path):
    """A state belongs to the backend that wrote it."""
    path = tmp_path / "state.npz"
    shutil.copy(FOLDER / f"state-{BACKEND}.npz", path)
    with np.load(path) as state:
        done = json.loads(str(state["results"]))
    assert [result["name"] for result in done] == ["pgd", "square"]

    model = keras.models.load_model(FOLDER / "network.keras")
    report = observed.evaluate(model, path)
    assert_kept(found(saved_report), found(report))
    assert report.max_perturbation == pytest.approx(
        saved_report.max_perturbation
    )
    # What was done is not done again.
    for before, after in zip(done, report.results, strict=False):
        assert before["seconds"] == after.seconds


@pytest.mark.once
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_report_is_the_same(backend):
    name = f"report-{backend}.json"
    saved = read(name)
    report = keras_adaad.RobustnessReport.load(FOLDER / name)
    assert_kept(saved, plain(report.to_dict()))
    assert report.environment["backend"] == backend
    assert report.accuracy("fgsm") == saved["robust_accuracy"]
    assert "FGSM" in str(report).upper()
