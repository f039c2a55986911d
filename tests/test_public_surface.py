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
        *("AdaAD", "AdaIAD", "ARD", "BMTARD", "DGAD", "IAD", "IADII", "IGDM"),
        *("MTARD", "PGDAT", "RSLAD", "SAAD", "TRADES"),
        "AdversarialTraining",
        "Distiller",
        "RobustnessReport",
        "attacks",
        "callbacks",
        "data",
        "distribution",
        "evaluate_robustness",
        "evaluation",
        "export",
        "losses",
        "models",
        "optimizers",
        "recipes",
        "zoo",
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
    assert public(keras_adaad.models) >= {
        "DMPreActResNet18",
        "DMWideResNet",
        "MobileNetV2",
        "PreActResNet18",
        "ResNet18",
        "ResNet34",
        "WideResNet",
        "logits",
        "with_normalization",
    }
    zoo = {"entry", "list_models", "load_checkpoint", "load_robustbench"}
    assert zoo <= public(keras_adaad.zoo)
    loaders = {"SetEpoch", "load_arrays", "load_folder", "load_tfds"}
    assert loaders <= public(keras_adaad.data)
    distribution = {"initialize", "wide_teacher_layout"}
    assert distribution <= public(keras_adaad.distribution)
    export = {"ExportedModel", "export_student", "load_exported"}
    assert export <= public(keras_adaad.export)
    callbacks = {
        "RobustEvaluation",
        "StochasticWeightAveraging",
        "StudentCheckpoint",
    }
    assert callbacks <= public(keras_adaad.callbacks)
    version = (PACKAGE.parent / "CHANGELOG.md").read_text()
    assert f"## {keras_adaad.__version__}" in version


def test_public_classes_are_documented():
    modules = [keras_adaad, keras_adaad.attacks, keras_adaad.callbacks]
    for module in modules:
        for name, value in vars(module).items():
            if inspect.isclass(value) and not name.startswith("_"):
                assert "Args:" in value.__doc__, name


def test_public_functions_are_documented():
    for module in (
        keras_adaad.models,
        keras_adaad.zoo,
        keras_adaad.data,
        keras_adaad.export,
    ):
        for name, value in vars(module).items():
            if inspect.isfunction(value):
                assert "Args:" in value.__doc__, name
                assert "Returns:" in value.__doc__, name


# Not for the backend: a data pipeline, the parity check with PyTorch, and the
# files that TensorFlow writes and reads whatever Keras runs on.
ELSEWHERE = {"data/tf_data.py", "export/with_tensorflow.py", "zoo/published.py"}


def test_frameworks_are_imported_in_the_backend_only():
    framework = re.compile(
        r"^\s*(?:import|from) (tensorflow|jax|torch)\b", re.M
    )
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE)
        if place.parts[0] != "backend" and place.as_posix() not in ELSEWHERE:
            assert not framework.search(path.read_text()), path
        assert "keras.src" not in path.read_text(), path
