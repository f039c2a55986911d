"""AdaAD with cheaper attacks: robust accuracy against seconds, on digits.

    python -m benchmarks.cheaper [--seeds 3] [--epochs 30]

Compares the exact attack of ten steps with attacks that cost less: fewer exact
steps; the teacher linearised at the clean images, that is
`teacher_in_attack="linear"`; the target fixed at the clean images, which is
RSLAD's attack with AdaAD's loss; and a number of steps that grows during
training. The step size of n steps is `min(1, 2.5 / n) * epsilon`, because
smaller steps would not reach the boundary of the ball.

Networks, data, epsilon and optimizer are the quickstart's. Each attack trains
students twice: for the same number of epochs, and for the same time, which is
that of the exact attack for a third of the epochs. Times are processor seconds
of training steps, measured in rounds over all attacks in turn, so that other
programs hardly affect them. They are also measured with a teacher of four times
the width, with 16 times the multiplications per convolution, to show the
savings with a large teacher. The divergence that each attack finds between
teacher and student is measured on test images, for students of the exact attack
after one epoch and after all epochs.
"""

import argparse
import json
import os
import pathlib
import sys
import time

import keras
import numpy as np

import keras_adaad
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import kl_divergence_from_logits

sys.path.insert(0, "examples")
import quickstart

BATCH = 64
EXACT = "exact, 10 steps"


class FixedTarget(keras_adaad.AdaAD):
    """AdaAD's loss with RSLAD's attack."""

    def inner_objective(self, x, y):
        target = self.teacher_logits(x)
        student = logits_function(self.student)
        return lambda x_adv: kl_divergence_from_logits(target, student(x_adv))


def attack(steps):
    return keras_adaad.attacks.PGD(
        epsilon=quickstart.EPSILON,
        step_size=min(1.0, 2.5 / steps) * quickstart.EPSILON,
        steps=steps,
        seed=0,
    )


def exact(steps):
    return lambda *networks: keras_adaad.AdaAD(*networks, attack(steps))


def linear(steps):
    return lambda *networks: keras_adaad.AdaAD(
        *networks, attack(steps), teacher_in_attack="linear"
    )


def fixed(steps):
    return lambda *networks: FixedTarget(*networks, attack(steps))


METHODS = {
    **{f"exact, {n} steps": exact(n) for n in (10, 5, 3, 2)},
    **{f"linear, {n} steps": linear(n) for n in (10, 5)},
    "fixed, 10 steps": fixed(10),
}
ANNEALED = "exact, 3, 5, 10 steps"
# Steps in each third of the training.
THIRDS = (3, 5, 10)


class StepsByEpoch(keras.callbacks.Callback):
    """Changes the number of attack steps during training.

    Args:
        schedule: Dict from the epoch to the number of steps from then on.
    """

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def on_epoch_begin(self, epoch, logs=None):
        if epoch in self.schedule:
            self.model.attack = attack(self.schedule[epoch])


def seconds_per_step(teacher, x, rounds=6):
    """Returns the seconds per training step by attack, of the best round."""
    trainers = {}
    for name, make in METHODS.items():
        trainers[name] = make(teacher, quickstart.make_network(8, "student"))
        trainers[name].compile("adam")
        trainers[name].fit(x, batch_size=BATCH, verbose=0)
    seconds = {name: float("inf") for name in trainers}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            start = time.process_time()
            trainer.fit(x, batch_size=BATCH, verbose=0)
            passed = (time.process_time() - start) / -(-len(x) // BATCH)
            seconds[name] = min(seconds[name], passed)
    thirds = [seconds[f"exact, {steps} steps"] for steps in THIRDS]
    return {**seconds, ANNEALED: float(np.mean(thirds))}


def train(name, teacher, data, epochs, seed):
    """Returns a trained student."""
    x_train = data[0]
    keras.utils.set_random_seed(seed)
    student = quickstart.make_network(8, "student")
    trainer = METHODS.get(name, METHODS[EXACT])(teacher, student)
    callbacks = []
    if name == ANNEALED:
        schedule = {epochs * i // 3: steps for i, steps in enumerate(THIRDS)}
        callbacks.append(StepsByEpoch(schedule))
    trainer.compile(quickstart.make_optimizer(epochs, data))
    trainer.fit(
        x_train,
        batch_size=BATCH,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return student


def accuracies(student, data):
    """Returns the accuracies of a student, in percent."""
    _, x_test, _, y_test = data
    report = keras_adaad.evaluate_robustness(
        student,
        x_test,
        y_test,
        ["pgd-20-sat"],
        quickstart.EPSILON,
        curve=False,
        reliability_checks=False,
        verbose=0,
    )
    return {
        "clean": 100 * report.clean_accuracy,
        "PGD-20": 100 * report.accuracy("pgd-20-sat"),
    }


def divergence(name, teacher, student, x):
    """Returns the mean `KL(T(x*) || S(x*))` at the points of an attack."""
    x_adv = METHODS[name](teacher, student).perturb(x)
    logits = [n.predict(x_adv, verbose=0) for n in (teacher, student)]
    return float(keras.ops.mean(kl_divergence_from_logits(*logits)))


def measure(seeds, epochs):
    """Returns a dict of results for each attack."""
    data = quickstart.load_data()
    large = quickstart.make_network(128, "large_teacher")
    with_large = seconds_per_step(large, data[0][: 3 * BATCH])
    keras.utils.set_random_seed(0)
    teacher = quickstart.train_teacher(data, epochs)
    seconds = seconds_per_step(teacher, data[0])
    rows = {}
    for name in seconds:
        cost = seconds[name] / seconds[EXACT]
        equal_time = max(round(epochs / 3 / cost), 3)
        rows[name] = {
            "seconds per step": seconds[name],
            "seconds per step, large teacher": with_large[name],
            "epochs in equal time": equal_time,
            "equal epochs": [],
            "equal time": [],
        }
    for seed in range(seeds):
        for name, row in rows.items():
            for key, n in (
                ("equal epochs", epochs),
                ("equal time", row["epochs in equal time"]),
            ):
                student = train(name, teacher, data, n, seed)
                row[key].append(accuracies(student, data))
            print(_line(name, row, rows[EXACT]), file=sys.stderr, flush=True)
    for key, n in (("early", 1), ("late", epochs)):
        student = train(EXACT, teacher, data, n, seed=0)
        for name in METHODS:
            found = divergence(name, teacher, student, data[1])
            rows[name][f"divergence, {key}"] = found
    steps = epochs * -(-len(data[0]) // BATCH)
    for row in rows.values():
        robust = np.mean([run["PGD-20"] for run in row["equal epochs"]])
        row["points per second"] = robust / (steps * row["seconds per step"])
    return rows


def report(results):
    """Returns the results as a table in Markdown."""
    rows, epochs = results["rows"], results["epochs"]
    names = (
        *("attack", "ms per step", "relative", "relative, large teacher"),
        *(f"clean, {epochs} epochs", f"PGD-20, {epochs} epochs"),
        *("PGD-20 points per second", "epochs in equal time"),
        *("clean, equal time", "PGD-20, equal time"),
        *("divergence, early", "divergence, late"),
    )
    lines = [names, ("---",) * len(names)]
    lines += [_line(name, row, rows[EXACT]) for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(name, row, exact_row):
    relative = [
        f"{row[key] / exact_row[key]:.2f}"
        for key in ("seconds per step", "seconds per step, large teacher")
    ]
    return (
        name,
        f"{1000 * row['seconds per step']:.1f}",
        *relative,
        *_accuracies(row["equal epochs"]),
        f"{row.get('points per second', 0.0):.1f}",
        str(row["epochs in equal time"]),
        *_accuracies(row["equal time"]),
        *(
            f"{row[key] / exact_row[key]:.2f}" if key in row else ""
            for key in ("divergence, early", "divergence, late")
        ),
    )


def _accuracies(runs):
    for key in ("clean", "PGD-20"):
        values = [run[key] for run in runs]
        spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        yield f"{np.mean(values):.1f}{spread}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--output", default="results/cheaper.json")
    arguments = parser.parse_args()
    results = {
        "version": keras_adaad.__version__,
        "backend": keras.config.backend(),
        "seeds": arguments.seeds,
        "epochs": arguments.epochs,
        "rows": measure(arguments.seeds, arguments.epochs),
    }
    print(report(results))
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
