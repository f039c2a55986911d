"""Tables and pictures of the runs of a study.

    python -m benchmarks.study.report FOLDER
    python -m benchmarks.study.report --publish

`FOLDER` holds the runs of a budget, within the folder of its study. The tables
are printed; the pictures are written to the folder. `--publish` writes tables
and pictures of the runs in `benchmarks/published` to `README.md` and `docs/`.
`tables.py` explains the intervals and the paired differences.
"""

import argparse
import functools
import json
import pathlib
import re
import shutil
import tempfile

from benchmarks import teacher_tables
from benchmarks import weighting
from benchmarks.study import pictures
from benchmarks.study import studies
from benchmarks.study import tables
from benchmarks.study.results import load
from benchmarks.study.results import outcomes

PUBLISHED = pathlib.Path("benchmarks/published")
# The tables of each page: "STUDY BUDGET WHAT [REGIME]".
PAGES = {
    pathlib.Path("README.md"): ["cifar10 small summary"],
    pathlib.Path("docs/study.md"): [
        "cifar10 small accuracies A",
        "cifar10 small differences A",
        "cifar10 small accuracies B",
        "cifar10 small differences B",
        "cifar10 small gains",
        "cifar10 small sharper B",
        "cifar10 small accuracies levers",
        "cifar10 small levers",
        "cifar10 small radii",
        "literature",
        "fashion_mnist small accuracies",
        "fashion_mnist small differences",
        "fashion_mnist longer accuracies",
        "fashion_mnist longer differences",
    ],
    pathlib.Path("docs/guides/choosing-a-teacher.md"): [
        "teachers cheap teachers",
        "teachers cheap correlations",
        "teachers cheap weighting",
    ],
}
IMAGES = pathlib.Path("docs/images")
# The tables of `benchmarks.teachers`.
OF_TEACHERS = {
    "teachers": teacher_tables.table,
    "correlations": teacher_tables.correlation_table,
}


def gate(study, folder, images=500, points=8.0):
    """Returns whether the teacher is good enough, and a sentence about it.

    Under AutoAttack it must be better than the PGD-AT student, by `points`
    percentage points on the first `images` images.
    """
    runs = load(study, folder, "A")
    shares = []
    for name in ("teacher", "PGD-AT"):
        if 0 not in runs.get(name, {}):
            return None, f"gate: {name} has not run"
        flags = outcomes(study, runs[name][0])["AutoAttack"]
        shares.append(100 * flags[:images].mean())
    gap = shares[0] - shares[1]
    text = "gate: teacher {:.1f} %, PGD-AT {:.1f} %".format(*shares)
    return gap >= points, f"{text}: {gap:+.1f} points, {points} are needed"


def missing(study, folder):
    """Returns the arms that have no run, as a list in Markdown."""
    return "\n".join(
        f"- {arm.regime or study.name}: {arm.name}"
        for arm in study.arms
        if not arm.runs_in(folder)
    )


# Output.


def show(study, folder):
    """Prints the tables and draws the pictures of a folder of runs."""
    for regime in dict.fromkeys(arm.regime for arm in study.arms):
        runs = load(study, folder, regime)
        if not set(runs) - {"teacher"}:
            continue
        if regime:
            print(f"Regime {regime}\n")
        print(tables.accuracies(study, runs), "\n")
        if tables.own_arm(runs):
            print(tables.differences(study, runs), "\n")
        if study.keep_best:
            print(tables.best_epochs(study, runs), "\n")
        if regime == "cost":
            print(tables.costs(study, folder), "\n")
        for path in pictures.draw(study, runs, folder, regime):
            print(f"Drawn: {path}")
    if 0 in load(study, folder).get("teacher", {}):
        print(tables.radii(study, load(study, folder)), "\n")
    if study.name == "cifar10":
        print(tables.summary(study, folder), "\n")
        print(tables.gains(study, folder), "\n")
        print(tables.levers(study, folder), "\n")
        if path := pictures.draw_frontier(study, folder, folder):
            print(f"Drawn: {path}")
        print(gate(study, folder)[1])
    print(f"\nNot run:\n{missing(study, folder)}")


def publish():
    """Writes tables and pictures to the documentation."""
    for path, names in PAGES.items():
        text = path.read_text()
        for name in names:
            text = filled(text, name, table(name))
        path.write_text(text)
    with tempfile.TemporaryDirectory() as folder:
        for path in draw_published(pathlib.Path(folder)):
            shutil.copyfile(path, IMAGES / path.name)


def draw_published(folder):
    """Draws the pictures of the documentation; returns their paths."""
    study = studies.get("fashion_mnist")
    runs = load(study, PUBLISHED / study.name / "small")
    paths = [
        path.rename(folder / f"{study.name}_{path.name}")
        for path in pictures.draw(study, runs, folder)
    ]
    study = studies.get("cifar10")
    path = pictures.draw_frontier(
        study, PUBLISHED / study.name / "small", folder
    )
    return [*paths, path.rename(folder / f"{study.name}_{path.name}")]


def table(name):
    """Returns a published table by its name."""
    if name == "literature":
        return tables.literature()
    study_name, budget, what, *regime = name.split()
    folder = PUBLISHED / study_name / budget
    if study_name == "teachers":
        result = json.loads((folder / "teachers.json").read_text())
        if what == "weighting":
            return weighting.table(weighting.weakest(result["rows"]), folder)
        return OF_TEACHERS[what](result)
    study = studies.get(study_name)
    if what in ("summary", "gains", "levers"):
        return getattr(tables, what)(study, folder)
    make = {
        "accuracies": tables.accuracies,
        "differences": tables.differences,
        "sharper": functools.partial(tables.differences, own=tables.SHARPER),
        "radii": tables.radii,
    }[what]
    return make(study, load(study, folder, *regime))


def filled(text, name, table):
    """Returns a page with a table between the comments with its name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    text, count = re.subn(
        pattern, lambda _: f"{begin}\n\n{table}\n\n{end}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"A page must have one place for the table {name}.")
    return text


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study.report",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    if arguments.publish:
        publish()
    elif arguments.folder:
        name = arguments.folder.resolve().parent.name
        show(studies.get(name), arguments.folder)
    else:
        parser.error("Give the folder of the runs, or --publish.")


if __name__ == "__main__":
    main()
