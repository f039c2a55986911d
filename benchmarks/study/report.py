"""Tables and pictures of the runs of a study.

    python -m benchmarks.study.report FOLDER
    python -m benchmarks.study.report --publish

`FOLDER` holds the runs of a budget, within the folder of its study. The tables
are printed; the pictures are written to the folder. `--publish` writes tables
and pictures of the runs in `benchmarks/published` to `README.md` and `docs/`.

Accuracies are means over seeds, with their standard deviation. Intervals are
over images, after averaging each image over the seeds. So they show the effect
of other images, not of other seeds. Differences are paired: image by image,
over the seeds that both have.
"""

import argparse
import pathlib
import re
import shutil
import tempfile

import numpy as np
from scipy import stats

from benchmarks.study import pictures
from benchmarks.study import studies
from benchmarks.study.results import OURS
from benchmarks.study.results import cell
from benchmarks.study.results import interval
from benchmarks.study.results import load
from benchmarks.study.results import outcomes
from keras_adaad import RobustnessReport
from keras_adaad.evaluation.statistics import mcnemar

PUBLISHED = pathlib.Path("benchmarks/published")
# The tables of each page: "STUDY BUDGET WHAT [REGIME]".
PAGES = {
    pathlib.Path("README.md"): ["cifar10 small accuracies A"],
    pathlib.Path("docs/study.md"): [
        "cifar10 small accuracies A",
        "cifar10 small differences A",
        "cifar10 small radii",
        "fashion_mnist small accuracies",
        "fashion_mnist small differences",
        "fashion_mnist longer accuracies",
        "fashion_mnist longer differences",
    ],
}
IMAGES = pathlib.Path("docs/images")


def accuracies(study, runs):
    """Returns the table of accuracies in Markdown."""
    lines = [
        ("%", *study.columns, "95 % interval", "seeds", "s per epoch"),
        ("---",) * (len(study.columns) + 4),
    ]
    for name, seeds in runs.items():
        found = [outcomes(study, result) for result in seeds.values()]
        low, high = interval([flags["AutoAttack"] for flags in found])
        seconds = min(
            row["seconds"]
            for result in seeds.values()
            for row in result["history"]
        )
        lines.append(
            (
                f"**{name}**" if name == OURS else name,
                *(
                    cell([flags[c].mean() for flags in found])
                    for c in study.columns
                ),
                f"{low:.1f} to {high:.1f}",
                str(len(seeds)),
                f"{seconds:.1f}",
            )
        )
    return markdown(lines)


def differences(study, runs):
    """Returns AdaAD's accuracy minus the others', as a table in Markdown."""
    lines = [
        ("AdaAD minus", "clean", "p", "AutoAttack", "p", "seeds"),
        ("---",) * 6,
    ]
    for name, seeds in runs.items():
        common = sorted(set(seeds) & set(runs.get(OURS, ())))
        if name in (OURS, "teacher") or not common:
            continue
        cells = []
        for column in ("clean", "AutoAttack"):
            ours, theirs = (
                [outcomes(study, found[seed])[column] for seed in common]
                for found in (runs[OURS], seeds)
            )
            cells += difference(ours, theirs, exact=study.exact_test)
        lines.append((name, *cells, str(len(common))))
    return markdown(lines)


def difference(first, second, exact=False):
    """Compares two lists of paired outcomes, one per seed.

    Returns:
        Their difference in points with its interval, and the p-value of a
        t-test over the images or, if `exact` and there is one seed, of
        McNemar's test.
    """
    shares = [np.mean(flags, axis=0) for flags in (first, second)]
    points = 100 * (shares[0] - shares[1])
    margin = 1.96 * points.std(ddof=1) / len(points) ** 0.5
    if exact and len(first) == 1:
        p_value = mcnemar(first[0], second[0]).p_value
    else:
        p_value = stats.ttest_rel(*shares).pvalue if points.any() else 1.0
    return f"{points.mean():+.1f} ± {margin:.1f}", f"{p_value:.2g}"


def best_epochs(study, runs):
    """Returns the last epoch beside the best on held-out images, as a table."""
    lines = [("AutoAttack, %", "last epoch", "best epoch"), ("---",) * 3]
    for name, seeds in runs.items():
        if not all("best epoch" in result for result in seeds.values()):
            continue
        last, best = [], []
        for result in seeds.values():
            report = result["reports"]["autoattack"]
            last.append(RobustnessReport.from_dict(report).robust.mean())
            # If the last epoch is the best, there is no other report.
            report = result.get("best", report)
            best.append(RobustnessReport.from_dict(report).robust.mean())
        lines.append((name, cell(last), cell(best)))
    return markdown(lines)


def costs(study, folder):
    """Returns the accuracy per hour of training, as a table in Markdown."""
    few_labels = load(study, folder, "A")
    runs = {
        f"{name}, 5 steps": few_labels[name]
        for name in (OURS, f"{OURS} linear")
        if name in few_labels
    }
    runs.update(load(study, folder, "cost"))
    lines = [
        ("", "clean", "AutoAttack", "updates", "hours", "AutoAttack per hour"),
        ("---",) * 6,
    ]
    for name, seeds in runs.items():
        if name == "teacher":
            continue
        found = [outcomes(study, result) for result in seeds.values()]
        hours = np.mean([hours_of(result) for result in seeds.values()])
        robust = np.mean([100 * flags["AutoAttack"].mean() for flags in found])
        lines.append(
            (
                name,
                cell([flags["clean"].mean() for flags in found]),
                cell([flags["AutoAttack"].mean() for flags in found]),
                str(next(iter(seeds.values()))["updates"]),
                f"{hours:.2f}",
                f"{robust / hours:.1f}",
            )
        )
    return markdown(lines)


def hours_of(result):
    """Returns the hours of training if each epoch were as fast as the best.

    Other work on the machine slows down some epochs.
    """
    seconds = [row["seconds"] for row in result["history"]]
    return min(seconds) * len(seconds) / 3600


def radii(study, runs):
    """Returns a teacher's accuracy over epsilon, as a table in Markdown."""
    curve = runs["teacher"][0]["reports"]["short"]["curve"]
    if curve is None:
        return ""
    shares = [f"{radius / study.epsilon:g}" for radius in curve["epsilons"]]
    percent = [f"{100 * accuracy:.1f}" for accuracy in curve["accuracy"]]
    return markdown(
        [
            ("epsilon, in that of the evaluation", *shares),
            ("---",) * (len(shares) + 1),
            (f"the teacher's accuracy, {curve['attack']}, %", *percent),
        ]
    )


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


def markdown(lines):
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# Output.


def show(study, folder):
    """Prints the tables and draws the pictures of a folder of runs."""
    for regime in dict.fromkeys(arm.regime for arm in study.arms):
        runs = load(study, folder, regime)
        if not set(runs) - {"teacher"}:
            continue
        if regime:
            print(f"Regime {regime}\n")
        print(accuracies(study, runs), "\n")
        if OURS in runs:
            print(differences(study, runs), "\n")
        if study.keep_best:
            print(best_epochs(study, runs), "\n")
        if regime == "cost":
            print(costs(study, folder), "\n")
        for path in pictures.draw(study, runs, folder, regime):
            print(f"Drawn: {path}")
    if 0 in load(study, folder).get("teacher", {}):
        print(radii(study, load(study, folder)), "\n")
    if study.name == "cifar10":
        print(gate(study, folder)[1])
    print(f"\nNot run:\n{missing(study, folder)}")


def publish():
    """Writes tables and pictures to the documentation."""
    for path, tables in PAGES.items():
        text = path.read_text()
        for name in tables:
            text = filled(text, name, table(name))
        path.write_text(text)
    study = studies.get("fashion_mnist")
    runs = load(study, PUBLISHED / study.name / "small")
    with tempfile.TemporaryDirectory() as folder:
        for path in pictures.draw(study, runs, pathlib.Path(folder)):
            shutil.copyfile(path, IMAGES / f"{study.name}_{path.name}")


def table(name):
    """Returns a published table by its name."""
    study_name, budget, what, *regime = name.split()
    study = studies.get(study_name)
    make = {
        "accuracies": accuracies,
        "differences": differences,
        "radii": radii,
    }[what]
    return make(study, load(study, PUBLISHED / study_name / budget, *regime))


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
