"""What the runs of `benchmarks.fashion_mnist` say: tables and pictures.

    python -m benchmarks.fashion_mnist_report FOLDER
    python -m benchmarks.fashion_mnist_report --publish

`FOLDER` has the JSONs of a budget's runs. It prints the accuracies, and the
difference of AdaAD to every other method; `accuracy.png` and `curves.png` are
drawn there. `--publish` puts those of the runs in `benchmarks/published` into
`README.md` and `docs/`.

Accuracies are means over seeds, with their standard deviation. An interval is
over images: that of the mean of an image's outcomes over the seeds, so it says
what other images would change, not other seeds. Differences are paired: image
by image, over the seeds that both have.
"""

import argparse
import json
import pathlib
import re
import shutil
import tempfile

import numpy as np
from scipy import stats

from keras_adaad import RobustnessReport

OURS = "AdaAD"
COLUMNS = ("clean", "FGSM", "PGD-20", "CW", "AutoAttack")
RUNS = pathlib.Path("benchmarks/published/fashion_mnist")
# The tables of each page: "BUDGET WHAT".
PUBLISHED = {
    pathlib.Path("README.md"): ["small accuracies"],
    pathlib.Path("docs/study.md"): [
        *("small accuracies", "small differences"),
        *("longer accuracies", "longer differences"),
    ],
}
# The second picture shows those above, in percent.
ROBUST = 30
PICTURES = pathlib.Path("docs/images")


def load(folder):
    """Returns the runs of each method, by seed."""
    from benchmarks.fashion_mnist import methods

    runs = {name: {} for name in ("teacher", *methods())}
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        result = json.loads(path.read_text())
        config = result["config"]
        runs[config["method"]][config["seed"]] = result
    return {name: found for name, found in runs.items() if found}


def outcomes(result):
    """Returns which images are right, by column of the table."""
    short = RobustnessReport.from_dict(result["reports"]["short"])
    whole = RobustnessReport.from_dict(result["reports"]["autoattack"])
    alone = [attack.individual for attack in short.results]
    flags = (short.clean, *alone, whole.robust)
    return dict(zip(COLUMNS, flags, strict=True))


def accuracies(runs):
    """Returns the table of accuracies in Markdown."""
    lines = [
        ("%", *COLUMNS, "95 % interval", "seeds", "s per epoch"),
        ("---",) * (len(COLUMNS) + 4),
    ]
    for name, seeds in runs.items():
        found = [outcomes(result) for result in seeds.values()]
        low, high = interval([flags["AutoAttack"] for flags in found])
        seconds = min(
            row["seconds"]
            for result in seeds.values()
            for row in result["history"]
        )
        lines.append(
            (
                f"**{name}**" if name == OURS else name,
                *(cell([flags[c].mean() for flags in found]) for c in COLUMNS),
                f"{low:.1f} to {high:.1f}",
                str(len(seeds)),
                f"{seconds:.1f}",
            )
        )
    return markdown(lines)


def cell(shares):
    percent = 100 * np.array(shares)
    text = f"{percent.mean():.1f}"
    return text if len(shares) == 1 else f"{text} ± {percent.std(ddof=1):.1f}"


def interval(flags):
    """Returns the 95 % interval of the mean over images, in percent."""
    values = 100 * np.mean(flags, axis=0)
    margin = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return max(0.0, values.mean() - margin), values.mean() + margin


def differences(runs):
    """Returns AdaAD's accuracy minus the others', as a table in Markdown."""
    lines = [
        ("AdaAD minus", "clean", "p", "AutoAttack", "p", "seeds"),
        ("---",) * 6,
    ]
    for name, seeds in runs.items():
        common = sorted(set(seeds) & set(runs.get(OURS, ())))
        if name in (OURS, "teacher") or not common:
            continue
        ours = [outcomes(runs[OURS][seed]) for seed in common]
        theirs = [outcomes(seeds[seed]) for seed in common]
        cells = []
        for column in ("clean", "AutoAttack"):
            first, second = (
                np.mean([flags[column] for flags in found], axis=0)
                for found in (ours, theirs)
            )
            cells += difference(first, second)
        lines.append((name, *cells, str(len(common))))
    return markdown(lines)


def difference(first, second):
    """Returns the points between paired shares with their interval, and p."""
    points = 100 * (first - second)
    margin = 1.96 * points.std(ddof=1) / len(points) ** 0.5
    p_value = stats.ttest_rel(first, second).pvalue if points.any() else 1.0
    return f"{points.mean():+.1f} ± {margin:.1f}", f"{p_value:.2g}"


def markdown(lines):
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# The pictures.


def draw(runs, folder):
    """Draws robustness against accuracy, and the training curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.5), layout="constrained")
    panels = figure.subplots(1, 2)
    for name, seeds in runs.items():
        robust = draw_accuracy(panels[0], name, seeds)
        if robust > ROBUST:
            draw_accuracy(panels[1], name, seeds)
    panels[0].set(title="all", ylabel="AutoAttack accuracy (%)")
    panels[1].set(title="those that are robust")
    for axis in panels:
        axis.set(xlabel="clean accuracy (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right")
    figure.savefig(folder / "accuracy.png", dpi=120)

    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axis, key, title in (
        (panels[0], "val_accuracy", "clean"),
        (panels[1], "val_robust_accuracy", "PGD-10"),
    ):
        for name, seeds in runs.items():
            history = next(iter(seeds.values()))["history"]
            values = [100 * row[key] for row in history if key in row]
            if name != "teacher" and values:
                axis.plot(range(1, len(values) + 1), values, **look(name))
        axis.set(xlabel="epoch", title=f"held-out images, {title}")
    panels[0].set_ylabel("accuracy (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right")
    figure.savefig(folder / "curves.png", dpi=120)


def draw_accuracy(axis, name, seeds):
    """Draws a method as a point; returns its AutoAttack accuracy."""
    found = [outcomes(result) for result in seeds.values()]
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
        **{**look(name), "linestyle": ""},
    )
    return y


def look(name):
    """Returns a method's colour and style, the same in both pictures."""
    from benchmarks.fashion_mnist import methods

    if name == "teacher":
        return {"label": name, "color": "black"}
    number = list(methods()).index(name)
    first = number < 10
    return {
        "label": name,
        "color": f"C{number % 10}",
        "linestyle": "-" if first else "--",
        "markerfacecolor": None if first else "white",
    }


# Where they are shown.


def show(folder):
    """Prints the tables and draws the pictures of a folder of runs."""
    runs = load(folder)
    print(accuracies(runs), "\n")
    if OURS in runs:
        print(differences(runs), "\n")
    draw(runs, folder)
    print(f"Drawn: {folder / 'accuracy.png'}, {folder / 'curves.png'}")


def publish():
    """Puts tables and pictures into the documentation."""
    for path, tables in PUBLISHED.items():
        text = path.read_text()
        for name in tables:
            text = filled(text, name, table(name))
        path.write_text(text)
    with tempfile.TemporaryDirectory() as folder:
        draw(load(RUNS / "small"), pathlib.Path(folder))
        for name in ("accuracy", "curves"):
            target = PICTURES / f"fashion_mnist_{name}.png"
            shutil.copyfile(pathlib.Path(folder, f"{name}.png"), target)


def table(name):
    """Returns a published table by its name."""
    budget, what = name.split()
    make = {"accuracies": accuracies, "differences": differences}[what]
    return make(load(RUNS / budget))


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
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    if arguments.publish:
        publish()
    elif arguments.folder:
        show(arguments.folder)
    else:
        parser.error("Give the folder of the runs, or --publish.")


if __name__ == "__main__":
    main()
