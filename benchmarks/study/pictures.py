"""The pictures of a study."""

import numpy as np

from benchmarks.study.results import OURS
from benchmarks.study.results import interval
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
