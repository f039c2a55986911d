"""The names that users rely on."""

import inspect
import pathlib
import re

import keras_adaad

PACKAGE = pathlib.Path(keras_adaad.__file__).parent


def public(module):
    return {name for name in vars(module) if not name.startswith("_")}


def test_names():
    assert {
        "AdaAD",
        "AdversarialTraining",
        "Distiller",
        "PGDAT",
        "RobustnessReport",
        "attacks",
        "callbacks",
        "evaluate_robustness",
        "evaluation",
        "losses",
    } <= public(keras_adaad)
    assert {
        "APGD",
        "Attack",
        "AutoAttack",
        "CW",
        "FAB",
        "FGSM",
        "PGD",
        "Square",
        "TargetedAPGD",
        "get",
    } <= public(keras_adaad.attacks)
    callbacks = {"RobustEvaluation", "StudentCheckpoint"}
    assert callbacks <= public(keras_adaad.callbacks)
    version = (PACKAGE.parent / "CHANGELOG.md").read_text()
    assert f"## {keras_adaad.__version__}" in version


def test_public_classes_are_documented():
    modules = [keras_adaad, keras_adaad.attacks, keras_adaad.callbacks]
    for module in modules:
        for name, value in vars(module).items():
            if inspect.isclass(value) and not name.startswith("_"):
                assert "Args:" in value.__doc__, name


def test_frameworks_are_imported_in_the_backend_only():
    framework = re.compile(
        r"^\s*(?:import|from) (tensorflow|jax|torch)\b", re.M
    )
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "backend":
            assert not framework.search(path.read_text()), path
        assert "keras.src" not in path.read_text(), path
