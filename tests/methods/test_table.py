"""The README's table of methods is what the classes say."""

import pathlib

from benchmarks import methods

README = pathlib.Path(__file__).parents[2] / "README.md"


def test_readme_has_the_table_of_the_classes():
    table = methods.table()
    assert len(table.splitlines()) == 2 + len(methods.all_methods()) - 1
    assert table in README.read_text()
