"""The curve from smallest perturbations against PGD at each epsilon.

    python -m benchmarks.minimal --data cifar10.npz [--images 100]

Attacks the study's teacher for CIFAR-10, which is in the repository, or another
`.keras` file (`--model`). `--data` is an `.npz` file with `x_test` (uint8 or in
[0, 1]) and `y_test`. The first images are taken.

FMN looks for the smallest perturbation of each image, one run for all epsilons.
So does FAB-T (`--attacks fmn fab-t`), which takes much longer. PGD-20 runs at
each epsilon, on the images that it has not fooled yet in a smaller ball. All
see the same images. The curve of a report is checked: PGD-20 also runs at each
epsilon, on the images whose smallest perturbation is larger.

Each curve is an upper bound of the robust accuracy. The table says by how many
points a curve is above PGD's, at the epsilon where it is most. Times are of
whole calls, after a first one that compiles.

Writes `results/minimal.json`.
"""

import argparse
import functools
import json
import os
import pathlib
import time

import keras
import numpy as np

import keras_adaad
from keras_adaad import attacks

MODEL = "benchmarks/published/cifar10/small/teacher-0.keras"
# In 255ths of the range.
RADII = (1, 2, 4, 6, 8, 12, 16)
ATTACKS = {"fmn": attacks.FMN, "fab-t": attacks.FAB}


def load(path, images):
    """Returns the first test images as float32, and their labels."""
    with np.load(path) as file:
        x, y = (file[name][:images] for name in ("x_test", "y_test"))
    scale = 255 if x.dtype == np.uint8 else 1
    return np.divide(x, scale, dtype="float32"), y.reshape(-1)


def from_smallest(name, model, x, y, radii):
    """Returns the rows of an attack: its curve, and that of its report."""
    begin = time.perf_counter()
    # With the smallest radius, as if nothing were known of the others.
    report = keras_adaad.evaluate_robustness(
        model,
        x,
        y,
        [ATTACKS[name](epsilon=radii[0])],
        radii[0],
        reliability_checks=False,
        curve=radii,
        verbose=0,
    )
    seconds = time.perf_counter() - begin
    sizes = report.smallest_perturbations
    return {
        name: {
            "accuracy": [float(np.mean(sizes > radius)) for radius in radii],
            "median": report.median_perturbation,
            "seconds": report.results[0].seconds,
        },
        f"{name}, checked": {
            "accuracy": report.curve["accuracy"],
            "curve": report.curve["attack"],
            "seconds": seconds,
        },
    }


def from_pgd(model, x, y, radii):
    """Returns the row of PGD-20, which runs at each radius."""
    begin = time.perf_counter()
    right = model.predict(x, verbose=0).argmax(-1) == y
    accuracy = []
    for epsilon in radii:
        left = np.flatnonzero(right)
        if len(left):
            attack = attacks.PGD(epsilon=epsilon, steps=20, seed=0)
            x_adv = attack(model, x[left], y[left])
            logits = model.predict(x_adv, verbose=0)
            right[left] = logits.argmax(-1) == y[left]
        accuracy.append(float(right.mean()))
    seconds = time.perf_counter() - begin
    return {"pgd-20": {"accuracy": accuracy, "seconds": seconds}}


def measure(model, x, y, radii, names):
    """Returns a row of results for each curve."""
    runs = [from_pgd]
    runs += [functools.partial(from_smallest, name) for name in names]
    rows = {}
    for run in runs:
        run(model, x[:2], y[:2], radii[:1])
        rows.update(run(model, x, y, radii))
        print(report({"radii": radii, "rows": rows}), flush=True)
    for name, row in rows.items():
        if name != "pgd-20":
            above = np.subtract(row["accuracy"], rows["pgd-20"]["accuracy"])
            row["points above PGD"] = 100 * float(above.max())
    return rows


def report(results):
    """Returns the results as a table in Markdown."""
    epsilons = [f"{255 * radius:g}/255" for radius in results["radii"]]
    lines = [
        ("accuracy in % at", *epsilons, "most above PGD", "median", "seconds")
    ]
    lines.append(("---",) * len(lines[0]))
    for name, row in results["rows"].items():
        above, median = row.get("points above PGD"), row.get("median")
        lines.append(
            (
                name,
                *(f"{100 * share:.1f}" for share in row["accuracy"]),
                "" if above is None else f"{above:+.1f}",
                "" if median is None else f"{255 * median:.2f}/255",
                f"{row['seconds']:.0f}",
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--radii", type=float, nargs="+", default=RADII)
    parser.add_argument(
        "--attacks", nargs="+", choices=list(ATTACKS), default=["fmn"]
    )
    parser.add_argument("--output", default="results/minimal.json")
    arguments = parser.parse_args()
    x, y = load(arguments.data, arguments.images)
    radii = [radius / 255 for radius in sorted(arguments.radii)]
    model = keras.models.load_model(arguments.model)
    results = {
        "version": keras_adaad.__version__,
        "backend": keras.config.backend(),
        "images": len(x),
        "radii": radii,
        "rows": measure(model, x, y, radii, arguments.attacks),
    }
    print(report(results))
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
