"""Finds studies by name."""

import importlib

NAMES = ("cifar10", "fashion_mnist")


def get(name):
    """Returns a `Study` by its name."""
    return importlib.import_module(f"benchmarks.study.{name}").STUDY
