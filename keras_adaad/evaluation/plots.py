"""Plots of a report. Matplotlib is optional, and no display is needed."""

import textwrap

import numpy as np

from keras_adaad import checks
from keras_adaad.evaluation.examples import fooled_examples
from keras_adaad.evaluation.examples import magnification
from keras_adaad.evaluation.examples import unit_range
from keras_adaad.evaluation.rows import titled
from keras_adaad.evaluation.statistics import wilson_interval


def plot_accuracy(report, path=None):
    """Implements `RobustnessReport.plot`."""
    panels = 1 if report.curve is None else 2
    figure = new_figure(figsize=(5.5 * panels, 4.0))
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _bars(axes[0], report)
    if report.curve is not None:
        _curve(axes[1], report)
    figure.suptitle(f"{report.model_name}: {report.threat_model}")
    return saved(figure, path)


def plot_examples(report, path=None, num_images=6):
    """Implements `RobustnessReport.plot_examples`."""
    num_images = checks.check_integer("num_images", num_images)
    if report.images is None:
        raise ValueError(
            "`plot_examples` needs the images, and this report has none: they "
            "are not stored in the JSON file. Plot the report that the "
            "evaluation returned, before it is saved and loaded."
        )
    chosen = fooled_examples(report, num_images)
    if len(chosen) == 0:
        raise ValueError(
            "`plot_examples` shows images that are right until they are "
            "attacked, and no attack fooled the model on any of the "
            f"{len(report.labels)} images. Attack more images, or with a "
            f"larger `epsilon`. Received: epsilon={report.threat_model.epsilon}"
        )
    low, high = report.threat_model.input_range
    clean = unit_range(report.images["clean"][chosen], low, high)
    adversarial = unit_range(report.images["adversarial"][chosen], low, high)
    delta = adversarial - clean
    factor = magnification(delta)
    rows = {
        "clean": clean,
        "adversarial": adversarial,
        f"perturbation x {factor}": 0.5 + factor * delta,
    }
    figure = new_figure(figsize=(1.0 + 1.5 * len(chosen), 6.0))
    axes = figure.subplots(3, len(chosen), squeeze=False)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name)
        for axis, image in zip(row, images, strict=True):
            axis.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
    for row, name in zip(axes, ("clean", "adversarial"), strict=False):
        probabilities = report.images[f"{name}_probabilities"][chosen]
        for axis, values in zip(row, probabilities, strict=True):
            label = report.class_name(np.argmax(values))
            label = textwrap.fill(label, 16)
            axis.set_title(f"{label}\n{100 * np.max(values):.0f} %", size=8)
    figure.suptitle(
        textwrap.fill(
            f"{report.model_name}: {report.threat_model}, "
            f"perturbation x {factor}",
            20 + 16 * len(chosen),
        )
    )
    return saved(figure, path)


def _bars(axis, report):
    stages = [("clean", report.clean), *titled(report)]
    shares = np.array([flags.mean() for _, flags in stages])
    intervals = [wilson_interval(f.sum(), len(f)) for _, f in stages]
    low, high = np.transpose(intervals)
    labels = [
        f"{textwrap.fill(name, 24)}\n{100 * share:.1f} %"
        for (name, _), share in zip(stages, shares, strict=True)
    ]
    axis.barh(
        np.arange(len(stages)),
        100 * shares,
        xerr=100 * np.stack([shares - low, high - shares]),
        color=["tab:gray"] + ["tab:blue"] * (len(stages) - 1),
        capsize=3,
    )
    axis.set_yticks(np.arange(len(stages)), labels)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="accuracy, worst case so far (%)")
    axis.set_title(f"{len(report.labels)} images, 95 % intervals", size=10)


def _curve(axis, report):
    curve = report.curve
    n = curve["num_images"]
    accuracy = np.array(curve["accuracy"])
    low, high = np.transpose(
        [wilson_interval(round(share * n), n) for share in accuracy]
    )
    axis.fill_between(curve["epsilons"], 100 * low, 100 * high, alpha=0.2)
    axis.plot(curve["epsilons"], 100 * accuracy, marker="o", clip_on=False)
    axis.axvline(report.threat_model.epsilon, color="tab:red", linestyle="--")
    axis.set(xlim=(0, None), xlabel=f"epsilon ({report.threat_model.norm})")
    axis.set(ylim=(0, 100), ylabel="accuracy (%)")
    axis.set_title(f"{curve['attack']}, {n} images", size=10)


def new_figure(**kwargs):
    """Returns an empty Matplotlib figure."""
    # No pyplot: it would choose a display and keep every figure alive.
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need Matplotlib, which is not installed. "
            "Run `pip install matplotlib`."
        ) from error
    return Figure(layout="constrained", **kwargs)


def saved(figure, path):
    """Writes a figure if there is a path, and returns it."""
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
