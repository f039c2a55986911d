"""The curve from smallest perturbations against PGD at each epsilon.

    python -m benchmarks.minimal --data cifar10.npz [--images 100]

Attacks the study's teacher for CIFAR-10, which is in the repository, or another
`.keras` file (`--model`). `--data` is an `.npz` file with `x_test` (uint8 or in
[0, 1]) and `y_test`. The first images are taken.

FMN looks for the smallest perturbation of each image, one run for all epsilons.
So does FAB-T (`--attacks fmn fab-t`), which takes much longer. With both, a
last row takes the smaller perturbation of each image. PGD-20 runs at each
epsilon, on the images that it has not fooled yet in a smaller ball. All see the
same images. Each curve is an upper bound of the robust accuracy. The
table says by how many points the one from the smallest perturbations is above
PGD's, at the epsilon where it is most. Times are of whole calls, after a first
one that compiles.

Writes `results/minimal.json`.
"""

import argparse
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
    """Returns the accuracies at the radii, from one run of an attack."""
    # With the smallest radius, as if nothing were known of the others.
    attack = ATTACKS[name](epsilon=radii[0])
    report = keras_adaad.evaluate_robustness(
        model,
        x,
        y,
        [attack],
        radii[0],
        reliability_checks=False,
        curve=False,
        verbose=0,
    )
    sizes = report.smallest_perturbations
    return {**from_sizes(sizes, radii), "sizes": sizes}


def from_sizes(sizes, radii):
    """Returns the accuracies at the radii, from a size for each image."""
    return {
        "accuracy": [float(np.mean(sizes > radius)) for radius in radii],
        "median": float(np.median(sizes)),
    }


def from_pgd(model, x, y, radii):
    """Returns the accuracies at the radii, from a run of PGD-20 at each."""
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
    return {"accuracy": accuracy}


def measure(model, x, y, radii, names):
    """Returns a row of results for each attack."""
    runs = {"pgd-20": from_pgd}
    for name in names:
        runs[name] = lambda *task, name=name: from_smallest(name, *task)
    rows = {}
    for name, run in runs.items():
        run(model, x[:2], y[:2], radii[:1])
        begin = time.perf_counter()
        row = run(model, x, y, radii)
        row["seconds"] = time.perf_counter() - begin
        rows[name] = row
        print(f"{name}: {row['seconds']:.1f} s", flush=True)
    if len(names) > 1:
        of_attacks = [rows[name] for name in names]
        sizes = np.min([row["sizes"] for row in of_attacks], axis=0)
        rows[" and ".join(names)] = {
            **from_sizes(sizes, radii),
            "seconds": sum(row["seconds"] for row in of_attacks),
        }
    for row in list(rows.values())[1:]:
        above = np.subtract(row["accuracy"], rows["pgd-20"]["accuracy"])
        row["points above PGD"] = 100 * float(above.max())
        row.pop("sizes", None)
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
