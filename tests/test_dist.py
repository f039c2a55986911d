"""The wheel: all of the package, and nothing beside it."""

import email
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import keras
import pytest

import keras_adaad

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="one build is enough"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The path of a wheel of the working tree, built without a network.

    It is built from a copy: setuptools writes into the folder that it builds,
    and packs what an earlier build has left there.
    """
    folder = tmp_path_factory.mktemp("wheel")
    folders = "benchmarks examples keras_adaad keras_adaad_cli tests"
    for name in folders.split():
        shutil.copytree(
            ROOT / name,
            folder / "source" / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.keras"),
        )
    top = ("LICENSE", "README.md", "pyproject.toml")
    for name in top:
        shutil.copy(ROOT / name, folder / "source")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet"),
            *("--disable-pip-version-check", "--no-index", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", folder, "."),
        ],
        cwd=folder / "source",
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_is_small(wheel):
    assert wheel.stat().st_size < 10**6


def test_the_wheel_has_the_whole_package(names):
    code = {
        path.relative_to(ROOT).as_posix()
        for folder in ("keras_adaad", "keras_adaad_cli")
        for path in (ROOT / folder).rglob("*.py")
    }
    data = {
        "keras_adaad/py.typed",
        "keras_adaad/recipes/published_results.json",
        "keras_adaad/zoo/registry.json",
    }
    templates = ROOT / "keras_adaad/evaluation/pages/templates"
    data |= {p.relative_to(ROOT).as_posix() for p in templates.iterdir()}
    folders = ("keras_adaad/", "keras_adaad_cli/")
    assert {n for n in names if n.startswith(folders)} == code | data


def test_the_wheel_has_nothing_else(names):
    own = {
        "keras_adaad",
        "keras_adaad_cli",
        f"keras_adaad-{keras_adaad.__version__}.dist-info",
    }
    assert {name.split("/")[0] for name in names} == own


def test_the_metadata_is_that_of_pyproject(wheel, names):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (name,) = (n for n in names if n.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Name"] == project["name"]
    assert metadata["Version"] == keras_adaad.__version__
    assert metadata["License-Expression"] == project["license"]
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == project["requires-python"]
    extras = project["optional-dependencies"]
    assert sorted(metadata.get_all("Provides-Extra")) == sorted(extras)
    # The core depends on no framework.
    needs = [r for r in metadata.get_all("Requires-Dist") if "extra" not in r]
    core = {"click", "keras", "numpy"}
    assert {re.match(r"[\w-]+", r)[0] for r in needs} == core


def test_the_wheel_installs_the_command(wheel, names):
    (name,) = (n for n in names if n.endswith("/entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(name).decode()
    assert "[console_scripts]\nkeras-adaad = keras_adaad_cli:main\n" in text
