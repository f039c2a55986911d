"""The options: quick, and as documented."""

import pathlib
import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import keras_adaad_cli
from keras_adaad.command_line.errors import bad_input
from keras_adaad.zoo import load
from keras_adaad.zoo import registry

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "docs").rglob("*.yml"),
]


def commands(page):
    """Returns the commands of a page, each as its arguments."""
    text = page.read_text().replace("\\\n", " ")
    found = re.findall(r"^\s*keras-adaad (.+)$", text, re.M)
    return [shlex.split(line, comments=True) for line in found]


COMMANDS = [
    pytest.param(arguments, id=f"{page.stem} {' '.join(arguments)}")
    for page in PAGES
    for arguments in commands(page)
]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_documented_commands_parse(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "generated").mkdir()
    for name in arguments:
        if name.endswith((".keras", ".tflite", ".onnx", ".json", ".npz")):
            (tmp_path / name).touch()
    command, parent = keras_adaad_cli.main, None
    while isinstance(command, click.Group):
        parent = click.Context(command, parent)
        command = command.commands[arguments[0]]
        arguments = arguments[1:]
    command.make_context("command", list(arguments), parent)


def test_each_command_is_documented():
    page = (ROOT / "docs/guides/command-line.md").read_text()
    for name, command in keras_adaad_cli.main.commands.items():
        assert f"`keras-adaad {name}" in page
        if name == "evaluate":
            for option in command.params[1:]:
                assert option.opts[0] in page


def test_help_imports_no_keras():
    code = (
        "import sys, keras_adaad_cli\n"
        "try: keras_adaad_cli.main(['evaluate', '--help'])\n"
        "finally: assert not {'keras', 'keras_adaad'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "Usage: keras-adaad evaluate" in result.stdout


def test_a_missing_backend_is_explained(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(
        keras_adaad_cli.group.importlib, "import_module", absent
    )
    result = CliRunner().invoke(keras_adaad_cli.main, ["zoo", "list"])
    assert result.exit_code == 2
    assert "tensorflow" in result.stderr and "KERAS_BACKEND" in result.stderr


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("distil", "--teacher-checkpoint"),
        ("teachers", "ID=FILE"),
        ("convert", "--checkpoint"),
    ],
)
def test_a_missing_checkpoint_is_asked_for_by_an_option(command, option):
    with pytest.raises(FileNotFoundError) as info:
        load.fetch(registry.entry("Standard"), "no.pt")
    with click.Context(click.Command(command), info_name=command):
        error = bad_input("--name", info.value)
    assert f"and pass its path as {option}, or pass --download" in str(error)


def test_choices_are_those_of_the_registry():
    choices = {
        option.name: list(option.type.choices)
        for option in keras_adaad_cli.zoo.list_.params
    }
    assert choices == {
        "dataset": list(registry.DATASETS),
        "threat_model": list(registry.THREAT_MODELS),
    }
