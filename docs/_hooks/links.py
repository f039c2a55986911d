"""Links of the pages to files of the repository, followed on the site too.

A page links to `../../examples/quickstart.py`, as GitHub wants it, and MkDocs
knows only what is in `docs/`. So each file that is linked to becomes a page of
the site, and the links to it are changed while the site is built. An example
has a page already, made by `examples.py`.
"""

import pathlib
import posixpath
import re

from mkdocs.structure.files import File
from mkdocs.structure.files import InclusionLevel

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?!\w+:|/|#)[^)#\s]+")
NAME = re.compile(r"(<a [^>]*>)?<code>(keras_adaad(?:\.\w+)+)</code>")


def on_files(files, config):
    """Adds a page for every file outside of `docs/` that a page links to."""
    pages = files.documentation_pages()
    left = [pathlib.Path(f.abs_src_path) for f in pages if f.abs_src_path]
    seen = set(left)
    while left:
        source = left.pop()
        for target in LINK.findall(source.read_text(encoding="utf-8")):
            path = outside(source, target)
            if path is None or path in seen:
                continue
            seen.add(path)
            if files.get_file_from_path(page_of(path)) is None:
                files.append(make_page(path, config))
            if path.suffix == ".md":
                left.append(path)
    return files


def on_page_markdown(markdown, page, config, files):
    """Points the links at those pages."""
    if page.file.abs_src_path is None:  # A page made of code.
        return markdown
    source = pathlib.Path(page.file.abs_src_path)
    folder = posixpath.dirname(page.file.src_uri) or "."

    def changed(match):
        path = outside(source, match[0])
        if path is None:
            return match[0]
        return posixpath.relpath(page_of(path), folder)

    return LINK.sub(changed, markdown)


def on_page_content(html, page, config, files):
    """Makes a public name in the text a link to its place in the API."""

    def linked(match):
        if match[1]:
            return match[0]
        tag = f'autoref optional identifier="{match[2]}"'
        return f"<{tag}><code>{match[2]}</code></autoref>"

    return NAME.sub(linked, html)


def outside(source, target):
    """Returns the file that a link leads to, if MkDocs can't know it."""
    path = (source.parent / target).resolve()
    within = source.is_relative_to(DOCS) and path.is_relative_to(DOCS)
    if within or not path.is_file() or not path.is_relative_to(ROOT):
        return None
    return path


def page_of(path):
    """Returns where a file of the repository is on the site."""
    base = DOCS if path.is_relative_to(DOCS) else ROOT
    place = path.relative_to(base)
    if place.name == "README.md":
        return place.with_name("index.md").as_posix()
    if place.suffix == ".png":
        return place.as_posix()
    return place.with_suffix(".md").as_posix()


def make_page(path, config):
    """Returns a file of Markdown as it is, and code under its path."""
    if path.suffix in (".md", ".png"):
        return File.generated(config, page_of(path), abs_src_path=str(path))
    code = path.read_text(encoding="utf-8")
    language = {".py": "python"}.get(path.suffix, "text")
    place = path.relative_to(ROOT).as_posix()
    content = f"# {place}\n\n````{language}\n{code}````\n"
    return File.generated(
        config,
        page_of(path),
        content=content,
        inclusion=InclusionLevel.NOT_IN_NAV,
    )
