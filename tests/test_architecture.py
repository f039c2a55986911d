"""Imports point one way, and what is private to others is in one place."""

import ast
import graphlib
import pathlib
import re

import pytest

import keras_adaad

pytestmark = pytest.mark.once

PACKAGE = pathlib.Path(keras_adaad.__file__).parent


def modules_of(folder):
    """Returns the files of a package by the names of their modules."""
    return {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts): path
        for path in folder.rglob("*.py")
    }


MODULES = modules_of(PACKAGE)
# From the ground up: a package imports only those before it.
FLOORS = (
    "version",
    "_typing",
    "checks",
    "backend",
    "writing",
    "losses",
    "frozen",
    "logits",
    "attacks",
    "optimizers",
    "models",
    "distribution",
    "training",
    "methods",
    "evaluation",
    "callbacks",
    "data",
    "recipes",
    "export",
    "zoo",
    "teachers",
    "command_line",
    "__init__",
)
# Not for the backend: a strategy for `--devices`, a data pipeline, the parity
# check with PyTorch, and the files that TensorFlow writes and reads whatever
# Keras runs on.
ELSEWHERE = {
    "command_line/devices.py",
    "data/tf_data.py",
    "export/saved_model.py",
    "export/with_tensorflow.py",
    "zoo/pytorch_networks.py",
}


def imports_of(path, modules=MODULES):
    """Yields our modules that a file imports, and whether at its top."""
    root = next(iter(modules)).split(".")[0]
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        if node.module.split(".")[0] != root:
            continue
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            for found in (name, f"{name}.__init__", node.module):
                if found in modules:
                    yield found, id(node) in top
                    break
            else:
                yield f"{node.module}.__init__", id(node) in top


def floor_of(module):
    return FLOORS.index(module.split(".")[1])


def test_imports_point_down():
    for module, path in MODULES.items():
        for imported, _ in imports_of(path):
            assert floor_of(imported) <= floor_of(module), (module, imported)


@pytest.mark.parametrize("package", ["keras_adaad", "benchmarks"])
def test_no_cycle(package):
    modules = modules_of(PACKAGE.parent / package)
    graph = {
        module: {imported for imported, _ in imports_of(path, modules)}
        # A package's table of contents imports what imports its parts.
        for module, path in modules.items()
        if not module.endswith("__init__")
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_imports_inside_functions_are_of_optional_frameworks():
    for module, path in MODULES.items():
        for imported, top in imports_of(path):
            place = MODULES[imported].relative_to(PACKAGE).as_posix()
            assert top or place in ELSEWHERE, (module, imported)


def test_frameworks_are_imported_in_the_backend_only():
    framework = re.compile(
        r"^\s*(?:import|from) (tensorflow|jax|torch)\b", re.M
    )
    for path in MODULES.values():
        place = path.relative_to(PACKAGE)
        if place.parts[0] != "backend" and place.as_posix() not in ELSEWHERE:
            assert not framework.search(path.read_text()), path
        assert "keras.src" not in path.read_text(), path


def test_private_names_of_keras_are_in_one_module():
    private = re.compile(
        r"_inbound_nodes|_maybe_symbolic_build|_distributed_dataset"
        r"|_get_variable_index|_use_cached_eval_dataset|torch\._dynamo"
        r"|_dtype_policy\"|_compiled_trainable_state|_eval_epoch_iterator"
    )
    for path in MODULES.values():
        if path.name != "keras_private.py":
            assert not private.search(path.read_text()), path


def test_no_file_is_long():
    command = (PACKAGE.parent / "keras_adaad_cli").glob("*.py")
    for path in [*MODULES.values(), *command]:
        lines = len(path.read_text().splitlines())
        limit = 300 if path.name == "adversarial_training.py" else 350
        assert lines <= limit, (path, lines)
