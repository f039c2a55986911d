"""Compares AutoAttack with the published implementation on the same weights.

    python -m benchmarks.autoattack [--norms linf l2] [--what protocol attacks]
    python -m benchmarks.autoattack --what report

Trains a small network adversarially on Fashion-MNIST (which Keras downloads,
or finds in its folder). Then it runs `pyautoattack` on the network's plain
PyTorch twin, and ours on each backend, one process after another. `protocol`
times the whole standard AutoAttack. `attacks` runs each attack alone on all
images that are correct when clean; "all" is their worst case. The second
command prints the report of one backend.

Prints the accuracy, the share of images with the same verdict, the number of
images that the reference fools and this one does not, and the time.

Writes `results/autoattack.json`. Results that it holds are not measured again.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

BACKENDS = ("torch", "tensorflow", "jax")
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
WIDTHS = (16, 32, 64)
WEIGHTS = pathlib.Path("results/autoattack.weights.h5")
# Chosen so that the network's robust accuracy is between 30 and 60 %.
TASKS = {
    "linf": {"epsilon": 0.1, "images": 500},
    "l2": {"epsilon": 1.5, "images": 200},
}
BATCH_SIZE = 250  # That of the published AutoAttack.


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--norms", nargs="+", default=list(TASKS))
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--what", nargs="+", default=["protocol", "attacks"])
    parser.add_argument("--output", default="results/autoattack.json")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(*arguments.worker)

    WEIGHTS.parent.mkdir(exist_ok=True)
    if not WEIGHTS.exists():
        run_worker("torch", "linf", "train")
    if arguments.what == ["report"]:
        print(run_worker(arguments.backends[0], arguments.norms[0], "report"))
        return
    output = pathlib.Path(arguments.output)
    results = json.loads(output.read_text()) if output.exists() else {}
    for norm in arguments.norms:
        for what in arguments.what:
            found = results.setdefault(f"{norm} {what}", {})
            for engine in ("reference", *arguments.backends):
                if engine in found:
                    continue
                print(f"{norm} {what}: {engine}", flush=True)
                found[engine] = run_worker(engine, norm, what)
                output.write_text(json.dumps(results))
            print_table(norm, what, found)


def run_worker(engine, norm, what):
    """Runs one measurement in a new process, and returns its result."""
    backend = "torch" if engine == "reference" else engine
    process = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.autoattack"),
            *("--worker", engine, norm, what),
        ],
        env={**os.environ, "KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.strip().split("\n")[-1])


def work(engine, norm, what):
    import torch  # noqa: F401, I001  First: TensorFlow's libraries clash.
    import keras

    from benchmarks import networks

    keras.utils.set_random_seed(0)
    (x_train, y_train), (x, y) = keras.datasets.fashion_mnist.load_data()
    model = networks.conv_net(WIDTHS)
    if what == "train":
        return train(model, x_train[:20000], y_train[:20000])
    model.load_weights(WEIGHTS)
    task = TASKS[norm]
    x = (x[: task["images"], ..., None] / 255).astype("float32")
    y = y[: task["images"]].astype("int32")
    run = reference if engine == "reference" else ours
    print(json.dumps(run(model, x, y, norm, task["epsilon"], what)))


def train(model, x, y):
    import keras

    import keras_adaad

    trainer = keras_adaad.PGDAT(
        model,
        keras_adaad.attacks.PGD(epsilon=0.1, step_size=0.025, steps=7),
        evaluation_attack=None,
    )
    trainer.compile(keras.optimizers.Adam(2e-3), metrics=["accuracy"])
    x = (x[..., None] / 255).astype("float32")
    log = trainer.fit(x, y, epochs=4, batch_size=128, verbose=0).history
    model.save_weights(WEIGHTS)
    print(json.dumps(log))


def ours(model, x, y, norm, epsilon, what):
    import keras_adaad

    report = keras_adaad.evaluate_robustness(
        model,
        x,
        y,
        {
            "protocol": ["autoattack"],
            "attacks": list(ATTACKS),
            "report": ["fgsm", "pgd", "cw", "autoattack"],
        }[what],
        epsilon,
        norm=norm,
        batch_size=BATCH_SIZE,
        individual=what == "attacks",
        reliability_checks=what == "report",
        curve=what == "report",
        verbose=0,
    )
    if what == "report":
        return str(report)
    robust = {
        r.name: r.robust if what == "protocol" else r.individual
        for r in report.results
    }
    return {
        "clean": report.clean.tolist(),
        "robust": {name: flags.tolist() for name, flags in robust.items()},
        "seconds": {r.name: r.seconds for r in report.results},
    }


def reference(model, x, y, norm, epsilon, what):
    """Runs the published AutoAttack on the network's plain PyTorch twin."""
    import pyautoattack
    import torch

    from benchmarks.reference import ConvNet
    from benchmarks.reference import copy_weights

    net = copy_weights(model, ConvNet(WIDTHS)).eval()
    x = torch.tensor(x).permute(0, 3, 1, 2).contiguous()
    y = torch.tensor(y).long()

    def right(x):
        with torch.no_grad():
            return (net(x).argmax(1) == y).numpy()

    def attack(names, seed=0):
        adversary = pyautoattack.AutoAttack(
            net, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, seed=seed
        )
        adversary.attacks_to_run = list(names)
        begin = time.perf_counter()
        x_adv, _ = adversary.run_standard_evaluation(
            x, y, batch_size=BATCH_SIZE
        )
        return (right(x) & right(x_adv)).tolist(), time.perf_counter() - begin

    runs = {"all": ATTACKS}
    if what == "attacks":
        runs = {name: [name] for name in ATTACKS}
    found = {name: attack(names) for name, names in runs.items()}
    if what == "attacks":
        # Shows how much the reference differs from itself.
        for name in ATTACKS:
            found[f"{name}, seed 1"] = attack([name], seed=1)
    return {
        "clean": right(x).tolist(),
        "robust": {name: flags for name, (flags, _) in found.items()},
        "seconds": {name: seconds for name, (_, seconds) in found.items()},
    }


def print_table(norm, what, found):
    """Prints agreement, accuracies and times against the reference."""
    task = TASKS[norm]
    print(
        f"\n{norm}, epsilon {task['epsilon']}, {task['images']} images, clean "
        f"accuracy {100 * np.mean(found['reference']['clean']):.1f} %"
    )
    row = "{:<10}{:<20}{:>9}{:>9}{:>9}{:>9}{:>7}".format
    print(row("attack", "", "robust", "agree", "missed", "seconds", "ratio"))
    rows = [
        (name, f"{engine}{seed}", robust, seconds)
        for engine, mine in found.items()
        for name, seed, robust, seconds in runs(mine, what)
    ]
    for attack in (*ATTACKS, "all"):
        first = None
        for name, engine, robust, seconds in rows:
            if name != attack:
                continue
            first = first or (robust, seconds)
            print(
                row(
                    attack if first == (robust, seconds) else "",
                    engine,
                    f"{100 * np.mean(robust):.1f}",
                    f"{100 * np.mean(np.equal(robust, first[0])):.1f}",
                    # Fooled by the reference and not by this one.
                    str(np.greater(robust, first[0]).sum()),
                    f"{seconds:.1f}",
                    f"{seconds / first[1]:.2f}",
                )
            )
    print(flush=True)


def runs(mine, what):
    """Lists `(attack, seed, robust, seconds)`; "all" is the worst case."""
    if what == "protocol":
        last = list(mine["robust"].values())[-1]
        return [("all", "", last, sum(mine["seconds"].values()))]
    found = []
    for seed in ("", ", seed 1"):
        names = [f"{name}{seed}" for name in ATTACKS]
        if names[0] in mine["robust"]:
            robust = [mine["robust"][name] for name in names]
            seconds = [mine["seconds"][name] for name in names]
            every = zip(ATTACKS, robust, seconds, strict=True)
            found += [(name, seed, r, s) for name, r, s in every]
            worst = np.logical_and.reduce(robust).tolist()
            found.append(("all", seed, worst, sum(seconds)))
    return found


if __name__ == "__main__":
    main()
