"""Runs a script of `examples/`, here or in a process of its own."""

import pathlib
import runpy
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def run_here(monkeypatch, capsys, name, *options):
    """Runs an example as `python examples/NAME.py`, in this process.

    A process of its own takes ten seconds to import the frameworks. Returns
    what the example printed.
    """
    script = ROOT / "examples" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, options)])
    monkeypatch.syspath_prepend(script.parent)
    capsys.readouterr()
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        assert not end.code
    return capsys.readouterr().out


def run(*command):
    """Runs Python in a process of its own; returns what it printed."""
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
