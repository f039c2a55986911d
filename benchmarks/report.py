"""Puts the latest results into the tables of `benchmarks/README.md`.

    python -m benchmarks.report [step_speed memory ...]

Every benchmark writes `results/NAME.json`, and the function `report(results)`
of its module makes a table from it. The table replaces the text between the
comments `<!-- NAME -->` and `<!-- end of NAME -->`.
"""

import importlib
import json
import pathlib
import re
import sys

README = pathlib.Path(__file__).with_name("README.md")


def main():
    text = README.read_text()
    names = sys.argv[1:] or re.findall(r"<!-- end of (\w+) -->", text)
    for name in names:
        path = pathlib.Path("results", f"{name}.json")
        if not path.exists():
            print(f"{path} is missing: run python -m benchmarks.{name}")
            continue
        module = importlib.import_module(f"benchmarks.{name}")
        table = module.report(json.loads(path.read_text()))
        text, count = re.subn(
            f"(<!-- {name} -->).*(<!-- end of {name} -->)",
            lambda match, table=table: f"{match[1]}\n{table}\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
        print(f"{name}: {count} table")
    README.write_text(text)


if __name__ == "__main__":
    main()
