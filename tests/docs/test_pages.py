"""The code in the README and in docs/ runs, and the links resolve.

Conventions for a page:

- The blocks of a page that begin with ```python run in order, in one namespace,
  in an empty working directory, on the backend of the suite. A warning is an
  error, as in the whole suite.
- If `tests/docs/preludes/PAGE.py` exists, it runs before them in the same
  namespace. It is ordinary code that creates what the page assumes, small and
  real, such as `teacher`, `x_train`, `epochs`, or a file that the page loads.
  It mocks no part of the library. PAGE is the name of the page's file with
  underscores: `your_own_method.py` for `your-own-method.md`, `readme.py` for
  `README.md`.
- A comment in the line right above a block names the backends it runs on,
  `<!-- runs on: tensorflow, jax -->`, or the reason why it is not run,
  `<!-- not run: needs two machines -->`. Such a block must still compile.
- `make format` formats the blocks too.
- A link to a file of the repository is relative, from the page's place in
  it: `[quickstart](../../examples/quickstart.py)` in docs/guides. GitHub
  follows it, and so does the site (`docs/_hooks/links.py`).
"""

import os
import pathlib
import re
import sys
import textwrap
import types
from typing import NamedTuple

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PRELUDES = pathlib.Path(__file__).with_name("preludes")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"(?:^[ ]*<!--[ ]*(?P<mark>(?:runs[ ]on|not[ ]run):[^\n]*?)[ ]*-->\n)?"
    r"^(?P<indent>[ ]*)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


class Block(NamedTuple):
    """A block of code, the number of its first line, and where it runs."""

    code: str
    line: int
    mark: str | None

    def runs_here(self):
        if self.mark is None:
            return True
        kind, _, rest = self.mark.partition(":")
        names = [name.strip() for name in rest.split(",")]
        return kind == "runs on" and keras.config.backend() in names


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            textwrap.dedent(match["code"]),
            text[: match.start("code")].count("\n") + 1,
            match["mark"],
        )
        for match in BLOCK.finditer(text)
    ]


def compiled(block, page):
    """Keeps the page's line numbers, for tracebacks and AutoGraph."""
    return compile("\n" * (block.line - 1) + block.code, str(page), "exec")


def title(page):
    return page.stem.lower().replace("-", "_")


def named(page):
    return page.relative_to(ROOT).as_posix()


WITH_CODE = [page for page in PAGES if blocks(page)]


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    """Runs a page in an empty directory and undoes its global changes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    before = dict(os.environ)
    distribution = keras.distribution.distribution()
    yield monkeypatch
    os.environ.clear()
    os.environ.update(before)
    if keras.distribution.distribution() is not distribution:
        keras.distribution.set_distribution(distribution)


# The teachers of the pages are hardly trained here.
@pytest.mark.filterwarnings("ignore:The teacher classifies")
@pytest.mark.parametrize("page", WITH_CODE, ids=named)
def test_code_of_a_page_runs(page, surroundings):
    module = types.ModuleType(f"page_{title(page)}")
    surroundings.setitem(sys.modules, module.__name__, module)
    prelude = PRELUDES / f"{title(page)}.py"
    if prelude.exists():
        code = compile(prelude.read_text(), str(prelude), "exec")
        exec(code, vars(module))
    for block in blocks(page):
        code = compiled(block, page)
        if block.runs_here():
            exec(code, vars(module))


@pytest.mark.once
def test_marks_are_of_the_convention():
    for page in PAGES:
        marked = [block for block in blocks(page) if block.mark]
        comments = re.findall(r"<!-- *(?:runs on|not run)", page.read_text())
        assert len(comments) == len(marked), "a comment with no block below it"
        for block in blocks(page):
            if block.mark is None:
                continue
            kind, _, rest = block.mark.partition(":")
            names = {name.strip() for name in rest.split(",")}
            if kind == "runs on":
                assert names <= {"tensorflow", "jax", "torch"}, block
            else:
                assert rest.strip(), block


@pytest.mark.once
def test_each_prelude_is_of_one_page():
    titles = [title(page) for page in WITH_CODE]
    assert len(set(titles)) == len(titles)
    assert {path.stem for path in PRELUDES.glob("*.py")} <= set(titles)


LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")


def anchors(path):
    """Returns the anchors of a page's headings on GitHub and the site."""
    headings = re.findall(r"^#+ (.*)$", without_code(path), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in headings
    }


def without_code(path):
    return re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)


@pytest.mark.once
@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md"],
    ids=named,
)
def test_links_lead_somewhere(page):
    for match in LINK.finditer(without_code(page)):
        target = page.parent / match["path"] if match["path"] else page
        assert target.exists(), match[0]
        if match["anchor"]:
            assert match["anchor"] in anchors(target), match[0]
