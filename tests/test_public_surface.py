"""The names that users rely on."""

import importlib
import inspect
import pathlib
import re

import pytest

import keras_adaad

pytestmark = pytest.mark.once

PACKAGE = pathlib.Path(keras_adaad.__file__).parent


PAGES = PACKAGE.parent / "docs" / "api"


def public(module):
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }


def documented():
    text = "\n".join(page.read_text() for page in PAGES.glob("*.md"))
    return re.findall(r"^::: (\S+)$", text, re.M)


def test_each_public_name_is_documented():
    """What is exported has an entry in `docs/api`, and nothing else has."""
    exported = {f"keras_adaad.{name}" for name in public(keras_adaad)}
    for page in PAGES.glob("*.md"):
        if page.stem != "keras_adaad":
            module = getattr(keras_adaad, page.stem)
            names = public(module)
            exported |= {f"keras_adaad.{page.stem}.{name}" for name in names}
    # On the page of `evaluation` under their shorter names.
    exported -= {
        "keras_adaad.evaluation.RobustnessReport",
        "keras_adaad.evaluation.evaluate_robustness",
    }
    assert sorted(documented()) == sorted(exported)


def test_each_package_is_public_or_internal():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    # The methods are exported at the top level.
    internal = {"backend", "checks", "command_line", "frozen"}
    internal |= {"methods", "training"}
    assert packages - {page.stem for page in PAGES.glob("*.md")} == internal


def test_version():
    version = (PACKAGE.parent / "CHANGELOG.md").read_text()
    assert f"## {keras_adaad.__version__}" in version


def test_public_classes_are_documented():
    modules = [keras_adaad, keras_adaad.attacks, keras_adaad.callbacks]
    for module in modules:
        for name, value in vars(module).items():
            if inspect.isclass(value) and not name.startswith("_"):
                takes = inspect.signature(value).parameters
                assert "Args:" in value.__doc__ or not takes, name


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


def test_logits_function_is_found_where_it_was():
    with pytest.warns(DeprecationWarning, match="logits_function"):
        module = importlib.import_module("keras_adaad.logits")
    assert module.logits_function is keras_adaad.logits_function
