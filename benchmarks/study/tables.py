"""The tables of a study, in Markdown.

Accuracies are means over seeds, with their standard deviation. Intervals are
over images, after averaging each image over the seeds. So they show the effect
of other images, not of other seeds. Differences are paired: image by image,
over the seeds that both have.
"""

import numpy as np
from scipy import stats

from benchmarks.study.results import OURS
from benchmarks.study.results import cell
from benchmarks.study.results import interval
from benchmarks.study.results import load
from benchmarks.study.results import outcomes
from keras_adaad import RobustnessReport
from keras_adaad import recipes
from keras_adaad.evaluation.statistics import mcnemar

# The rows of the front page.
KNOWN = (
    *("plain training", "PGD-AT", "TRADES", "RSLAD", OURS, f"{OURS} linear"),
    f"{OURS} linear, teacher at half temperature",
)
# The methods of the study whose accuracies papers report.
PUBLISHED_METHODS = ("PGDAT", "TRADES", "ARD", "RSLAD", "AdaAD", "SAAD")


def summary(study, folder):
    """Returns the accuracies with few labels, and with more images besides."""
    runs = {regime: load(study, folder, regime) for regime in ("A", "B")}
    runs["A"] |= load(study, folder, "levers")  # With the images of A.
    runs = {r: found for r, found in runs.items() if set(found) - {"teacher"}}
    columns = [f"{regime}: {column}" for regime in runs for column in SHORT]
    lines = [("%", *columns), ("---",) * (1 + len(columns))]
    for name in ("teacher", *KNOWN):
        cells = [
            c for found in runs.values() for c in short(study, found, name)
        ]
        if any(cells):
            title = f"**{name}**" if name == OURS else name
            lines.append((title, *(c or "not run" for c in cells)))
    return markdown(lines)


SHORT = ("clean", "AutoAttack")


def short(study, runs, name):
    """Returns an arm's two accuracies, or empty texts if it has not run."""
    found = [outcomes(study, r) for r in runs.get(name, {}).values()]
    if not found:
        return [""] * len(SHORT)
    return [cell([flags[column].mean() for flags in found]) for column in SHORT]


def literature():
    """Returns what papers report for the study's methods and a ResNet-18."""
    lines = [
        ("method", "teacher", "epochs", "clean", "AutoAttack", "source"),
        ("---",) * 6,
    ]
    for name in PUBLISHED_METHODS:
        for found in recipes.published_results(name, "cifar10"):
            if (found.student, found.attack) != ("ResNet18", "AutoAttack"):
                continue
            values = (found.epochs, found.clean_accuracy)
            lines.append(
                (
                    name,
                    found.teacher or "none",
                    *("not stated" if v is None else str(v) for v in values),
                    str(found.robust_accuracy),
                    found.source,
                )
            )
    return markdown(lines)


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


def own_arm(runs):
    """Returns the name of AdaAD's arm, or `None` if it has not run.

    Where only the linear teacher has run, its arm takes the place.
    """
    return next((n for n in (OURS, f"{OURS} linear") if n in runs), None)


def differences(study, runs):
    """Returns AdaAD's accuracy minus the others', as a table in Markdown."""
    own = own_arm(runs) or OURS
    lines = [
        (f"{own} minus", "clean", "p", "AutoAttack", "p", "seeds"),
        ("---",) * 6,
    ]
    for name, seeds in runs.items():
        if name not in (own, "teacher"):
            lines += compared(study, name, runs.get(own, {}), seeds)
    return markdown(lines)


def gains(study, folder):
    """Returns what the unlabelled images of regime B add to each method."""
    labelled, unlabelled = (load(study, folder, r) for r in ("A", "B"))
    lines = [
        ("regime B minus A", "clean", "p", "AutoAttack", "p", "seeds"),
        ("---",) * 6,
    ]
    for name, seeds in unlabelled.items():
        if name != "teacher":
            lines += compared(study, name, seeds, labelled.get(name, {}))
    return markdown(lines)


def levers(study, folder):
    """Returns what each lever has over the methods of regime A."""
    few_labels, runs = (load(study, folder, r) for r in ("A", "levers"))
    for found in (few_labels, runs):
        found.pop("teacher", None)
    lines = [("", "clean", "p", "AutoAttack", "p", "seeds"), ("---",) * 6]
    for lever, seeds in runs.items():
        for name, theirs in few_labels.items():
            title = f"{lever}, minus {name}"
            lines += compared(study, title, seeds, theirs)
    return markdown(lines)


def compared(study, title, ours, theirs):
    """Returns the row of the differences of two arms, if they share a seed."""
    common = sorted(set(ours) & set(theirs))
    if not common:
        return []
    cells = []
    for column in ("clean", "AutoAttack"):
        pair = (
            [outcomes(study, runs[seed])[column] for seed in common]
            for runs in (ours, theirs)
        )
        cells += difference(*pair, exact=study.exact_test)
    return [(title, *cells, str(len(common)))]


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
            ("epsilon, as a multiple of 8/255", *shares),
            ("---",) * (len(shares) + 1),
            (f"the teacher's accuracy, {curve['attack']}, %", *percent),
        ]
    )


def markdown(lines):
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
