"""The examples of the repository as pages, and as notebooks to download.

An example is a script in the form of keras.io: a docstring that begins with a
title, then code and texts in turn, each text a string on lines of its own.
"""

import itertools
import json
import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
QUOTES = re.compile(r'^"""\n', re.MULTILINE)
RUN = 'if __name__ == "__main__":'

OVERVIEW = """\
# Examples

Each example is a script in the folder `examples` of the repository. Here it is
a page, with a notebook to download. The last cell of a notebook takes the
options that the script takes on the command line.

| example | what it does | accelerator |
| --- | --- | --- |
"""

OPTIONS = """\
import sys

# In place of the arguments that Jupyter was started with. Options of the script
# may follow its name: ["{name}", "--epochs", "5"].
sys.argv = ["{name}"]

"""


def on_files(files, config):
    """Adds the scripts, their pages and notebooks, and the overview."""

    def add(place, **source):
        files.append(File.generated(config, f"examples/{place}", **source))

    for path in sorted(EXAMPLES.glob("*.py")):
        add(path.name, abs_src_path=str(path))
        if is_example(path):
            add(f"{path.stem}.md", content=page(path))
            add(f"{path.stem}.ipynb", content=notebook(path))
    add("index.md", content=overview(config.nav))
    return files


def is_example(path):
    """Tells an example from a module that examples import."""
    return path.read_text(encoding="utf-8").startswith('"""\nTitle: ')


def read(path):
    """Returns the fields of the docstring, and cells: kind and content."""
    source = path.read_text(encoding="utf-8")
    _, docstring, *contents = QUOTES.split(source)
    fields, _, introduction = docstring.partition("\n\n")
    fields = dict(line.split(": ", 1) for line in fields.splitlines())
    kinds = itertools.cycle(("markdown", "code"))
    contents = [content.strip("\n") for content in (introduction, *contents)]
    return fields, list(zip(kinds, contents, strict=False))


def imported(path):
    """Returns the scripts beside an example that it imports."""
    names = re.findall(r"^import (\w+)$", path.read_text("utf-8"), re.MULTILINE)
    return [f"{n}.py" for n in names if (EXAMPLES / f"{n}.py").exists()]


def overview(nav):
    """Returns a table of the examples, in the order of the navigation."""
    _, *places = next(part["Examples"] for part in nav if "Examples" in part)
    table = OVERVIEW
    for place in map(pathlib.Path, places):
        fields, _ = read(EXAMPLES / place.with_suffix(".py").name)
        title = f"[{fields['Title']}]({place.name})"
        row = (title, fields["Description"], fields["Accelerator"])
        table += f"| {' | '.join(row)} |\n"
    return table


def page(path):
    """Returns an example as a page of Markdown."""
    fields, cells = read(path)
    name = path.stem
    downloads = f"[notebook]({name}.ipynb), [script]({name}.py)"
    for module in imported(path):
        downloads += f" and [{module}]({module}), which both import"
    parts = [
        f"# {fields['Title']}",
        fields["Description"],
        f"- **Accelerator:** {fields['Accelerator']}\n"
        f"- **Download:** {downloads}",
    ]
    if (ROOT / "docs/images" / f"{name}.png").exists():
        parts.append(f"![What the example draws](../images/{name}.png)")
    for kind, content in cells:
        code = f"```python\n{content}\n```"
        parts.append(code if kind == "code" else with_links(content))
    return "\n\n".join(parts) + "\n"


def with_links(text):
    """Makes a name such as `quickstart.py` a link to its page."""

    def linked(match):
        path = EXAMPLES / f"{match[1]}.py"
        if not path.exists():
            return match[0]
        suffix = "md" if is_example(path) else "py"
        return f"[{match[0]}]({match[1]}.{suffix})"

    return re.sub(r"`(\w+)\.py`", linked, text)


def notebook(path):
    """Returns an example as the JSON of a notebook."""
    fields, (*cells, (_, last)) = read(path)
    title = f"# {fields['Title']}\n\n{fields['Description']}"
    origin = f"This notebook is `examples/{path.name}` of keras-adaad."
    for module in imported(path):
        origin += f" It imports `{module}`, which must be in the same folder."
    functions, run, main = last.partition(RUN)
    cells = [
        ("markdown", f"{title}\n\n{origin}"),
        *cells,
        ("code", functions.strip("\n")),
        ("code", OPTIONS.format(name=path.name) + run + main),
    ]
    kernel = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    content = {
        "cells": [cell(*parts) for parts in cells],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def cell(kind, source):
    """Returns a cell of a notebook, of which nothing has been run."""
    content = {
        "cell_type": kind,
        "metadata": {},
        "source": source.splitlines(keepends=True),
    }
    if kind == "code":
        content |= {"execution_count": None, "outputs": []}
    return content
