"""The pictures of a study."""

import textwrap

import numpy as np

from benchmarks.study.results import OURS
from benchmarks.study.results import interval
from benchmarks.study.results import load
from benchmarks.study.results import outcomes


def draw(study, runs, folder, regime=""):
    """Draws robustness against accuracy, and the training curves.

    Returns:
        The paths of the two pictures.
    """
    from matplotlib.figure import Figure

    prefix = f"{regime}-" if regime else ""
    figure = Figure(figsize=(10.0, 4.5), layout="constrained")
    panels = figure.subplots(1, 2)
    for number, (name, seeds) in enumerate(runs.items()):
        robust = draw_accuracy(study, panels[0], number, name, seeds)
        if robust > study.robust_above:
            draw_accuracy(study, panels[1], number, name, seeds)
    panels[0].set(title="all", ylabel="AutoAttack accuracy (%)")
    panels[1].set(title="those that are robust")
    for axis in panels:
        axis.set(xlabel="clean accuracy (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right")
    accuracy = folder / f"{prefix}accuracy.png"
    figure.savefig(accuracy, dpi=120)

    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axis, key, title in (
        (panels[0], "val_accuracy", "clean"),
        (panels[1], "val_robust_accuracy", "PGD-10"),
    ):
        for number, (name, seeds) in enumerate(runs.items()):
            history = next(iter(seeds.values()))["history"]
            values = [100 * row[key] for row in history if key in row]
            if name != "teacher" and values:
                epochs = range(1, len(values) + 1)
                axis.plot(epochs, values, **look(number, name))
        axis.set(xlabel="epoch", title=f"held-out images, {title}")
    panels[0].set_ylabel("accuracy (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right")
    curves = folder / f"{prefix}curves.png"
    figure.savefig(curves, dpi=120)
    return accuracy, curves


def draw_frontier(study, folder, target):
    """Draws the students of regimes A and B, and the frontier of each kind.

    The levers are drawn with regime A, whose images they share. A student is
    on the frontier of its kind if no other one is better in both accuracies.
    The kinds are those that learn from labels alone and those that a teacher
    trains.

    Returns:
        The path of the picture, or `None` if no student is robust.
    """
    from matplotlib.figure import Figure

    regimes = {
        "A": "A: 10,000 labelled images",
        "B": "B: 35,000 unlabelled images besides",
    }
    regimes = {
        r: text for r, text in regimes.items() if students(study, folder, r)
    }
    if not regimes:
        return None
    figure = Figure(
        figsize=(1.0 + 5.0 * len(regimes), 4.5), layout="constrained"
    )
    panels = figure.subplots(1, len(regimes), sharey=True, squeeze=False)[0]
    for axis, (regime, title) in zip(panels, regimes.items(), strict=True):
        found = students(study, folder, regime)
        if regime == "A":
            found += students(study, folder, "levers")
        for taught, kind in KINDS.items():
            points = {
                arm.name: point
                for arm, point in found
                if (arm.teacher is not None) == taught
            }
            if points:
                draw_kind(axis, points, **kind)
        axis.set(xlabel="clean accuracy (%)", title=title)
        axis.margins(0.12)
        axis.legend(loc="lower left")
    panels[0].set_ylabel("AutoAttack accuracy (%)")
    path = target / "frontier.png"
    figure.savefig(path, dpi=120)
    return path


# By whether a teacher takes part.
KINDS = {
    False: {"label": "labels alone", "color": "C1", "above": False},
    True: {"label": "with the teacher", "color": "C0", "above": True},
}


def students(study, folder, regime):
    """Returns pairs of a regime's robust students and their two accuracies.

    An accuracy is its mean and the ends of its 95 % interval.
    """
    runs = load(study, folder, regime)
    found = []
    for arm in study.arms:
        if arm.regime != regime or arm.name not in runs:
            continue
        flags = [outcomes(study, r) for r in runs[arm.name].values()]
        point = []
        for column in ("clean", "AutoAttack"):
            values = [seed[column] for seed in flags]
            point.append((100 * np.mean(values), *interval(values)))
        if point[1][0] > study.robust_above:
            found.append((arm, point))
    return found


def draw_kind(axis, points, label, color, above):
    """Draws points with their intervals, and the frontier through the best.

    The names stand above the points, or below them.
    """
    for name, (clean, robust) in points.items():
        axis.errorbar(
            *(clean[0], robust[0]),
            xerr=[[clean[0] - clean[1]], [clean[2] - clean[0]]],
            yerr=[[robust[0] - robust[1]], [robust[2] - robust[0]]],
            **{"color": color, "marker": "o", "elinewidth": 0.6},
        )
        axis.annotate(
            textwrap.fill(name, 16),
            (clean[0], robust[0]),
            xytext=(5, 5 if above else -13),
            textcoords="offset points",
            weight="bold" if name == OURS else None,
        )
    best = sorted(
        (clean[0], robust[0])
        for clean, robust in points.values()
        if not any(
            other[0][0] > clean[0] and other[1][0] > robust[0]
            for other in points.values()
        )
    )
    axis.plot(*zip(*best, strict=True), color=color, linestyle=":", label=label)


def draw_accuracy(study, axis, number, name, seeds):
    """Draws a method as a point; returns its AutoAttack accuracy."""
    found = [outcomes(study, result) for result in seeds.values()]
    x, y = (
        np.mean([100 * flags[column].mean() for flags in found])
        for column in ("clean", "AutoAttack")
    )
    low, high = interval([flags["AutoAttack"] for flags in found])
    axis.errorbar(
        *(x, y),
        yerr=[[y - low], [high - y]],
        marker="s" if name == "teacher" else "o",
        markersize=9 if name == OURS else 6,
        capsize=2,
        **{**look(number, name), "linestyle": ""},
    )
    return y


def look(number, name):
    """Returns a method's colour and style, the same in both pictures."""
    if name == "teacher":
        return {"label": name, "color": "black"}
    # The teacher, if there is one, is the first of the runs.
    first = number <= 10
    return {
        "label": name,
        "color": f"C{(number - 1) % 10}",
        "linestyle": "-" if first else "--",
        "markerfacecolor": None if first else "white",
    }
