"""The tables of a study, in Markdown.

Accuracies are means over seeds, with their standard deviation. Intervals are
over images, after averaging each image over the seeds. So they show the effect
of other images, not of other seeds. Differences are paired: image by image,
over the seeds that both have. They have a second p-value, over the seeds.
"""

import numpy as np
from scipy import stats

from benchmarks.study.results import OURS
from benchmarks.study.results import cell
from benchmarks.study.results import interval
from benchmarks.study.results import load
from benchmarks.study.results import outcomes
from benchmarks.study.results import report_of
from keras_adaad import recipes
from keras_adaad.evaluation.same_task import check_same_task
from keras_adaad.evaluation.statistics import mcnemar

SHARPER = f"{OURS} linear, teacher at half temperature"
# The rows of the front page.
KNOWN = (
    *("plain training", "PGD-AT", "TRADES", "RSLAD", OURS, f"{OURS} linear"),
    SHARPER,
)
# The columns of differences, after the first.
DIFFERENCES = (
    *("clean", "p, images", "p, seeds"),
    *("AutoAttack", "p, images", "p, seeds", "seeds"),
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


def differences(study, runs, own=None):
    """Returns AdaAD's accuracy minus the others', as a table in Markdown.

    `own` names another arm in its place.
    """
    own = own or own_arm(runs) or OURS
    rows = []
    for name, seeds in runs.items():
        if name not in (own, "teacher"):
            rows += compared(study, name, runs.get(own, {}), seeds)
    return of_differences(f"{own} minus", rows)


def gains(study, folder):
    """Returns what the unlabelled images of regime B add to each method."""
    labelled, unlabelled = (load(study, folder, r) for r in ("A", "B"))
    rows = []
    for name, seeds in unlabelled.items():
        if name != "teacher":
            rows += compared(study, name, seeds, labelled.get(name, {}))
    return of_differences("regime B minus A", rows)


def levers(study, folder):
    """Returns what each lever has over the methods of regime A."""
    few_labels, runs = (load(study, folder, r) for r in ("A", "levers"))
    for found in (few_labels, runs):
        found.pop("teacher", None)
    rows = []
    for lever, seeds in runs.items():
        for name, theirs in few_labels.items():
            title = f"{lever}, minus {name}"
            rows += compared(study, title, seeds, theirs)
    return of_differences("", rows)


def of_differences(title, rows):
    """Returns rows of `compared` as a table in Markdown."""
    head = (title, *DIFFERENCES)
    # With one seed each, no row has a p-value over seeds.
    shown = [
        column
        for column, name in enumerate(head)
        if name != "p, seeds" or any(row[column] != "-" for row in rows)
    ]
    lines = [head, ("---",) * len(head), *rows]
    return markdown([[line[column] for column in shown] for line in lines])


def compared(study, title, ours, theirs):
    """Returns the row of the differences of two arms, if they share a seed."""
    common = sorted(set(ours) & set(theirs))
    if not common:
        return []
    for seed in common:
        check_same_task(title, *(report_of(r[seed]) for r in (ours, theirs)))
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
        Their difference in points with its interval over the images, and two
        p-values. The first is that of a t-test over the images or, if `exact`
        and there is one seed, of McNemar's test: would other images say the
        same of these networks? The second is that of a t-test over the seeds,
        if there are several: would other trainings say the same on these
        images?
    """
    shares = [np.mean(flags, axis=0) for flags in (first, second)]
    points = 100 * (shares[0] - shares[1])
    margin = 1.96 * points.std(ddof=1) / len(points) ** 0.5
    if exact and len(first) == 1:
        p_value = mcnemar(first[0], second[0]).p_value
    else:
        p_value = stats.ttest_rel(*shares).pvalue if points.any() else 1.0
    means = [np.mean(flags, axis=1) for flags in (first, second)]
    over_seeds = "-"
    if np.ptp(np.subtract(*means)) > 1e-9:  # Else there is no spread to test.
        over_seeds = f"{stats.ttest_rel(*means).pvalue:.2g}"
    text = f"{points.mean():+.1f} ± {margin:.1f}"
    return text, f"{p_value:.2g}", over_seeds


def best_epochs(study, runs):
    """Returns the last epoch beside the best on held-out images, as a table."""
    lines = [("AutoAttack, %", "last epoch", "best epoch"), ("---",) * 3]
    for name, seeds in runs.items():
        if not all("best epoch" in result for result in seeds.values()):
            continue
        last, best = [], []
        for result in seeds.values():
            last.append(report_of(result).robust.mean())
            # If the last epoch is the best, there is no other report.
            best.append(report_of(result, "best").robust.mean())
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
