"""The site: all of the public API, built without a warning."""

import contextlib
import importlib
import importlib.util
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import keras
import pytest

from keras_adaad.evaluation import reliability

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parents[2]
API = sorted((ROOT / "docs/api").glob("*.md"))


def documented():
    """Returns the full names that the pages of the API show."""
    return [
        name
        for page in API
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    ]


def value_of(name):
    """Returns what has this name: `keras_adaad.zoo.entry`."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", documented())
def test_documented_arguments_are_arguments(name):
    value = value_of(name)
    section = re.search(r"^Args:\n((?: .*\n|\n)+)", inspect.getdoc(value), re.M)
    if section is None:
        return
    lines = textwrap.dedent(section[1]).splitlines()
    shown = [line.split(":")[0] for line in lines if re.match(r"[*\w]", line)]
    shown = {n.strip("* ") for names in shown for n in names.split(",")}
    callables = value.__mro__ if inspect.isclass(value) else [value]
    arguments = set()
    for function in callables:
        with contextlib.suppress(ValueError):  # A class of C.
            arguments |= set(inspect.signature(function).parameters)
    assert shown <= arguments


def test_every_flag_is_explained():
    page = (ROOT / "docs/guides/evaluating.md").read_text()
    # Those of other modules.
    flags = {"fewer_classes", "network", "selected_on_test"}
    flags |= {"trained_on_test", "near_duplicates"}
    no_checks = ("before_attacks", "after_attacks")
    for name, function in inspect.getmembers(reliability, inspect.isfunction):
        own = function.__module__ == reliability.__name__
        if own and name not in no_checks and not name.startswith("_"):
            flags.add(name.removesuffix("_of_another_range"))
    assert flags == set(re.findall(r"^\| `(\w+)` \|", page, re.M))


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="one build is enough"
)
@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs"
)
def test_site_builds(tmp_path):
    command = ["build", "--strict", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert result.returncode == 0, result.stderr
    pages = {
        path.relative_to(tmp_path / "site").as_posix(): path.read_text()
        for path in (tmp_path / "site").rglob("*.html")
    }
    api = "\n".join(pages[f"api/{page.stem}/index.html"] for page in API)
    for name in documented():
        assert f'id="{name}"' in api, name
    # Every section of a docstring is one, and not a paragraph.
    for section in ("Args", "Returns", "Raises"):
        assert not re.search(rf"<p>{section}:", api)
    assert '<span class="nb">float</span>' in api  # A type in a signature.
    # A link to an example leads to its page, and from there to its notebook.
    guide = pages["guides/first-student/index.html"]
    assert 'href="../../examples/quickstart/">quickstart</a>' in guide
    quickstart = pages["examples/quickstart/index.html"]
    assert 'src="../../images/quickstart.png"' in quickstart
    assert 'href="../quickstart.ipynb"' in quickstart
    notebook = (tmp_path / "site/examples/quickstart.ipynb").read_text()
    assert json.loads(notebook)["nbformat"] == 4
    # Nothing is fetched to read the site.
    for text in pages.values():
        fetched = r'<(?:img|link|script)[^>]+(?:href|src)="(?:https?:)?//'
        assert not re.search(fetched, text)
