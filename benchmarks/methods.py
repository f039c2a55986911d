"""Every method: its definition, and its results with a small student on digits.

    python -m benchmarks.methods --table          the tables of the methods
    python -m benchmarks.methods [--seeds 3]      trains each, on a backend
    python -m benchmarks.methods --show FILE ...  results of several backends

The table is generated from the classes: formulas and papers come from their
docstrings, passes per step from counting the runs of real networks in one step.

The measurement trains students of 6,258 parameters on scikit-learn's digits
with epsilon 0.2. All methods have the same optimizer, batch size, epochs, and
robust and clean teacher; each has its own published loss and start of the
attack. With 450 test images, two accuracies only differ reliably if they are
several points apart, and their order says nothing about CIFAR. Times are of
whole epochs, measured in rounds over all methods after the training.
"""

import argparse
import collections
import inspect
import json
import os
import pathlib
import re
import sys
import time

import keras
import numpy as np

import keras_adaad
from keras_adaad import methods
from keras_adaad import recipes
from keras_adaad.attacks import PGD
from keras_adaad.models.copying import copy_model
from keras_adaad.training.learning_teacher import LearningTeacher

EPSILON = 0.2


def all_methods():
    """Returns constructors `(teacher, clean_teacher, student, **kwargs)`."""
    found = {}
    for name, cls in vars(methods).items():
        if not inspect.isclass(cls) or not issubclass(cls, keras.Model):
            continue
        found[name] = _constructor(cls)
    adaad = found["AdaAD"]

    def with_igdm(*networks, **kwargs):
        return adaad(*networks, regularizers=[methods.IGDM()], **kwargs)

    return {**found, "AdaAD + IGDM": with_igdm}


def _constructor(cls):
    teachers = _teachers(cls)

    def make(teacher, clean_teacher, student, **kwargs):
        if "peer" in teachers:  # It learns, and starts untrained.
            teacher = keras.models.clone_model(teacher)
        if issubclass(cls, LearningTeacher):  # It would change for the others.
            teacher = copy_model(teacher)
            teacher.trainable = True  # It may have been another's teacher.
        networks = (teacher, student) if teachers else (student,)
        if len(teachers) == 2:
            kwargs["clean_teacher"] = clean_teacher
        return cls(*networks, attack=scaled_attack(cls, EPSILON), **kwargs)

    return make


def scaled_attack(cls, epsilon):
    """Returns a method's published attack, within another epsilon.

    Its steps are a quarter of epsilon, for all methods.
    """
    config = cls.published_attack((0.0, 1.0)).get_config()
    return PGD(**{**config, "epsilon": epsilon, "step_size": epsilon / 4})


def _teachers(cls):
    """Returns the names of a method's teachers, from its constructors."""
    names = set()
    for base in cls.__mro__:
        if "__init__" in vars(base) and base.__module__.startswith("keras_ad"):
            names |= set(inspect.signature(base.__init__).parameters)
    return sorted(names & {"teacher", "clean_teacher", "peer"})


# The table.


def short_table():
    """Returns the methods in words, as a table in Markdown."""
    lines = [
        "| method | in words | paper | labels | teachers |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, cls in vars(methods).items():
        if name in all_methods():
            words = inspect.getdoc(cls).splitlines()[0].rstrip(".")
            labels = "yes" if cls.needs_labels else "no"
            lines.append(
                f"| `{name}` | {words} | {_paper(cls)} | {labels} | "
                f"{len(_teachers(cls))} |"
            )
    return "\n".join(lines)


def table():
    """Returns the methods with their formulas, as a table in Markdown."""
    header = (
        *("method", "paper", "the attack raises", "the loss", "labels"),
        *("teachers", "student's passes per step", "teachers' passes per step"),
    )
    rows = [header, ("---",) * len(header)]
    constructors = all_methods()
    for name, cls in vars(methods).items():
        if name not in constructors:
            continue
        inner, outer = _formulas(cls)
        student, teachers = _passes(constructors[name])
        rows.append(
            (
                f"`{name}`",
                _paper(cls),
                f"`{inner}`",
                f"`{outer}`",
                "yes" if cls.needs_labels else "no",
                str(len(_teachers(cls))),
                str(student),
                str(teachers),
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _paper(cls):
    """Returns the parenthesis in the first line of a method's file."""
    first = inspect.getmodule(cls).__doc__.splitlines()[0]
    return re.search(r"\((.*)\)", first)[1]


def _formulas(cls):
    """Returns the attack's objective and the loss, from the docstring."""
    statements = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, keras_adaad.AdversarialTraining):
            statements.update(_statements(inspect.getdoc(base)))
    inner = re.sub(r"^argmax_\{.*? <= epsilon\} ", "", statements["x*"])
    return [f.replace("||", "‖") for f in (inner, statements["loss"])]


def _statements(doc):
    """Returns the indented `name = formula` lines, with continuations."""
    statements, name = {}, None
    for line in doc.split("\nArgs:")[0].splitlines():
        match = re.match(r" {4}(\S+) += (.*)", line)
        if match:
            name = match[1]
            statements[name] = match[2]
        elif line.startswith("     ") and name:
            statements[name] += " " + line.strip()
        else:
            name = None
    return {k: " ".join(v.split()) for k, v in statements.items()}


# Number of runs of each network, by its name. A changing attribute of the layer
# would count as a change of the network, which is then checked in every step.
_RUNS = collections.Counter()


class _Counted(keras.layers.Layer):
    """Counts the runs of the network that contains it."""

    def call(self, x):
        _RUNS[self.name] += 1
        return x


def _counted_network(name):
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Flatten()(_Counted(name=name)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def _passes(make):
    """Returns the runs of student and teachers with 10 attack steps."""
    names = ("teacher", "clean_teacher", "student")
    trainer = make(*map(_counted_network, names))
    trainer.compile("sgd", run_eagerly=True)
    x = np.random.default_rng(0).uniform(size=(2, 4, 4, 1)).astype("float32")
    y = np.array([0, 1])
    trainer.train_on_batch(x, y)
    _RUNS.clear()
    trainer.train_on_batch(x, y)
    teacher, clean_teacher, student = (_RUNS[name] for name in names)
    return student, teacher + clean_teacher


# The measurement.


def measure(seeds, epochs, only):
    """Trains every method; returns runs by name, and seconds per step."""
    sys.path.insert(0, "examples")
    import quickstart

    data = quickstart.load_data()
    x_train, x_test, y_train, y_test = data
    keras.utils.set_random_seed(0)
    teacher = quickstart.train_teacher(data, epochs)
    clean_teacher = quickstart.train_plainly(None, data, epochs)

    def fit(trainer, epochs):
        trainer.fit(x_train, y_train, batch_size=64, epochs=epochs, verbose=0)

    def train(name, make, seed):
        keras.utils.set_random_seed(seed)
        student = quickstart.make_network(8, "student")
        options = counted_in_epochs(name, epochs)
        trainer = make(teacher, clean_teacher, student, **options)
        trainer.compile(
            quickstart.make_optimizer(epochs, data), metrics=["accuracy"]
        )
        fit(trainer, epochs)
        return trainer

    def plain(seed):
        keras.utils.set_random_seed(seed)
        return quickstart.train_plainly(None, data, epochs)

    def accuracies(network):
        report = quickstart.evaluate(network, x_test, y_test)
        return {
            "clean": 100 * report.clean_accuracy,
            "PGD-20": 100 * report.accuracy("pgd-20-sat"),
        }

    rows = {"robust teacher": [accuracies(teacher)]}
    rows["clean teacher"] = [accuracies(clean_teacher)]
    rows["plain student"] = [accuracies(plain(seed)) for seed in range(seeds)]
    trainers = {}
    for name, make in all_methods().items():
        if only and name not in only:
            continue
        rows[name] = []
        for seed in range(seeds):
            trainers[name] = train(name, make, seed)
            rows[name].append(accuracies(trainers[name].student))
        print(name, *_cells(rows[name]), file=sys.stderr, flush=True)

    seconds = {name: float("inf") for name in trainers}
    steps = -(-len(x_train) // 64)
    for _ in range(4):
        for name, trainer in trainers.items():
            start = time.perf_counter()
            fit(trainer, 2)
            passed = (time.perf_counter() - start) / (2 * steps)
            seconds[name] = min(seconds[name], passed)
    return rows, seconds


def counted_in_epochs(name, epochs):
    """Returns the arguments that scale with the number of epochs."""
    if (name, "cifar10") not in recipes.list_recipes():
        return {}
    recipe = recipes.get(name, "cifar10").with_epochs(epochs)
    names = {"begin_epoch"} & set(recipe.constructor)
    return {name: recipe.constructor[name] for name in names}


def _cells(runs):
    """Returns clean and robust accuracy, with their spread over seeds."""
    cells = []
    for key in ("clean", "PGD-20"):
        values = [run[key] for run in runs]
        cells.append(f"{np.mean(values):.1f}")
        if len(values) > 1:
            cells[-1] += f" ± {np.std(values, ddof=1):.1f}"
    return cells


def show(results):
    """Returns the results of one backend, or of several, as a table."""
    rows = {"%": []}
    for result in results:
        seeds = len(result["accuracies"]["plain student"])
        backend = f"{result['backend']}, {seeds} seed{'s' * (seeds > 1)}"
        rows["%"] += [f"{backend}: clean", "PGD-20"]
        for name, runs in result["accuracies"].items():
            rows.setdefault(name, []).extend(_cells(runs))
    seconds = results[0]["seconds per step"]
    rows["%"].append(f"{results[0]['backend']}: ms per step")
    for name in results[0]["accuracies"]:
        time_ = f"{1000 * seconds[name]:.0f}" if name in seconds else ""
        rows[name].append(time_)
    lines = [f"| {' | '.join([name, *row])} |" for name, row in rows.items()]
    lines.insert(1, "| --- " * (len(rows["%"]) + 1) + "|")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--only", nargs="+", help="names of methods")
    parser.add_argument("--output", default="results/methods.json")
    parser.add_argument("--show", nargs="+", help="such files, in one table")
    arguments = parser.parse_args()
    if arguments.table:
        print(f"{short_table()}\n\n{table()}")
        return
    if arguments.show:
        print(
            show(
                [
                    json.loads(pathlib.Path(p).read_text())
                    for p in arguments.show
                ]
            )
        )
        return
    rows, seconds = measure(arguments.seeds, arguments.epochs, arguments.only)
    result = {
        "version": keras_adaad.__version__,
        "backend": keras.config.backend(),
        "epochs": arguments.epochs,
        "accuracies": rows,
        "seconds per step": seconds,
    }
    print(show([result]))
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
