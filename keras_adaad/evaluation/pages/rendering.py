"""Fills the templates, and writes pages that need no network."""

import base64
import hashlib
import importlib.util

from keras_adaad.writing import write_atomically


def save(path, template, **values):
    """Writes a page atomically: one file with its style and its script."""
    html = render(template, **values)
    write_atomically(path, lambda part: part.write_text(html, "utf-8"))


def short(template, **values):
    """Returns what a notebook shows, or `None` where Jinja2 is missing."""
    # Without it the notebook falls back to text; an error would be shown.
    if importlib.util.find_spec("jinja2") is None:
        return None
    return render(template, **values)


def render(template, **values):
    """Returns the HTML of a template, with all values escaped."""
    environment = _environment()
    style, script = (
        environment.loader.get_source(environment, name)[0]
        for name in ("style.css", "explorer.js")
    )
    digest = hashlib.sha256(script.encode()).digest()
    return environment.get_template(template).render(
        style=style,
        script=script,
        # The only script that the browser may run.
        script_hash=f"sha256-{base64.b64encode(digest).decode()}",
        **values,
    )


def _environment():
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(
            "HTML needs Jinja2, which is not installed. "
            "Run `pip install jinja2`."
        ) from error
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
