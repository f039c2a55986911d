"""The plot of a ranking of teachers."""

import textwrap

import numpy as np

from keras_adaad.evaluation.plots import new_figure
from keras_adaad.evaluation.plots import saved


def plot_ranking(ranking, path=None):
    """Implements `TeacherRanking.plot`."""
    rows = ranking.rows()
    figure = new_figure(figsize=(11.0, 1.5 + max(3.0, 0.45 * len(rows))))
    shares, curves = figure.subplots(1, 2)
    _shares(shares, ranking, rows)
    _curves(curves, ranking)
    figure.suptitle(
        f"Teachers for {ranking.student_name}: {ranking.threat_model}"
    )
    return saved(figure, path)


def _shares(axis, ranking, rows):
    places = np.arange(len(rows))
    share = 100 * np.array([row["transferable"] for row in rows])
    low, high = 100 * np.transpose(
        [row["transferable_interval"] for row in rows]
    )
    colors = [f"C{place % 10}" for place in places]
    errors = [share - low, high - share]
    axis.barh(places, share, xerr=errors, color=colors, capsize=3)
    names = [textwrap.fill(row["name"], 26) for row in rows]
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="transferable samples (%)")
    axis.set_title(f"{ranking.num_images} images, 95 % intervals", size=10)


def _curves(axis, ranking):
    radii = [0.0, *ranking.epsilons]
    for result in ranking.results:
        accuracy = 100 * result.robust(len(ranking.epsilons)).mean(-1)
        axis.plot(radii, accuracy, marker="o", label=result.name)
    epsilon = ranking.threat_model.epsilon
    axis.axvline(epsilon, color="tab:red", linestyle="--")
    what = "accuracy" if ranking.has_labels else "same class as clean"
    axis.set(xlim=(0, None), xlabel=f"epsilon ({ranking.threat_model.norm})")
    axis.set(ylim=(0, 100), ylabel=f"{what} of the teacher (%)")
    axis.set_title("PGD-20 on the teacher", size=10)
