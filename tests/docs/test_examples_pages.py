"""The examples as pages and as notebooks: all of each, in order."""

import ast
import importlib.util
import json
import pathlib
import re
import sys

import pytest

pytest.importorskip("mkdocs", reason="needs the extra `docs`")
pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parents[2]
# `distillation.py` is a module that examples import.
EXAMPLES = sorted(
    path
    for path in (ROOT / "examples").glob("*.py")
    if path.name != "distillation.py"
)


@pytest.fixture(scope="module")
def site():
    """The hook of MkDocs that makes the pages."""
    path = ROOT / "docs/_hooks/examples.py"
    spec = importlib.util.spec_from_file_location("hook", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parts(path):
    """Returns the texts of an example and its code, as Python parses it."""
    source = path.read_text()
    lines, texts = source.splitlines(), []
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts.insert(0, lines[node.lineno : node.end_lineno - 1])
            del lines[node.lineno - 1 : node.end_lineno]
    return texts, lines


def without_empty(lines):
    return [line for line in lines if line.strip()]


def cells(site, path, kind):
    """Returns the lines of each cell of a kind in an example's notebook."""
    found = json.loads(site.notebook(path))["cells"]
    sources = ["".join(c["source"]) for c in found if c["cell_type"] == kind]
    assert all(sources)
    return [source.splitlines() for source in sources]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_notebook_is_the_example(site, path, monkeypatch):
    texts, code = parts(path)
    title, *found = cells(site, path, "markdown")
    fields, introduction = texts[0][:3], texts[0][4:]
    assert found == [introduction, *texts[1:]]
    assert f"Title: {title[0].removeprefix('# ')}" == fields[0]
    assert f"Description: {title[2]}" == fields[1]
    assert fields[2].startswith("Accelerator: ")

    *functions, run = cells(site, path, "code")
    guard = run.index('if __name__ == "__main__":')
    shown = [line for cell in (*functions, run[guard:]) for line in cell]
    assert without_empty(shown) == without_empty(code)
    for cell in (*functions, run):
        compile("\n".join(cell), path.name, "exec")
    # The options are the example's, not those that Jupyter was started with.
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "x.json"])
    exec("\n".join(run[:guard]), {})
    assert sys.argv == [path.name]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_page_is_the_example(site, path):
    page = site.page(path)
    texts, code = parts(path)
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert without_empty("".join(blocks).splitlines()) == without_empty(code)
    texts = [line for text in texts for line in text]
    headings = [line for line in texts if line.startswith("#")]
    shown = re.sub(r"^```python\n.*?^```$", "", page, flags=re.M | re.S)
    title, *found = re.findall(r"^#+ .*$", shown, re.M)
    assert found == headings
    assert f"Title: {title.removeprefix('# ')}" == texts[0]


def test_notebook_names_what_it_imports(site):
    (title, *_) = cells(site, ROOT / "examples/cifar10_adaad.py", "markdown")
    assert "`distillation.py`" in title[4]
    page = site.page(ROOT / "examples/cifar10_adaad.py")
    assert "[distillation.py](distillation.py)" in page
    assert "[`distillation.py`](distillation.py)" in page
