"""The tables of methods in README and docs are what the classes say."""

import pathlib

import pytest

from benchmarks import methods

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.once
def test_pages_have_the_table_of_the_classes():
    table = methods.table()
    assert len(table.splitlines()) == 2 + len(methods.all_methods()) - 1
    assert table in (ROOT / "docs/methods.md").read_text()
    short = methods.short_table()
    assert len(short.splitlines()) == len(table.splitlines())
    assert short in (ROOT / "README.md").read_text()
