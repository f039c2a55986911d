"""The study: what each method makes of one small student, on Fashion-MNIST.

    python -m benchmarks.fashion_mnist [--budget small] [--seeds 0 1 2]
    python -m benchmarks.fashion_mnist_report FOLDER

A robust teacher is trained once; then every method trains the same student
with the same images, batch, epochs and optimizer, its own published loss and
start of the attack. Each student is attacked by FGSM, PGD-20 and CW, each on
all test images, and by the standard AutoAttack.

A run is a JSON in `results/fashion_mnist/BUDGET`: configuration, history of the
epochs and reports. The same command goes on after the last epoch or attack that
was done, and what has its JSON is not run again. At the end it prints the table
and draws the pictures, as the second command does for a folder of runs.

The images are those that `keras.datasets.fashion_mnist` downloads, or `--data`,
a folder with the four original files.
"""

import argparse
import csv
import dataclasses
import gzip
import json
import os
import pathlib
import platform
import queue
import shutil
import subprocess
import sys
import time
from concurrent import futures

import numpy as np

EPSILON = 0.1
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
# Widths and strides of the three convolutions.
TEACHER = (32, 64, 128)
STUDENT = (16, 32, 64)
STRIDES = (2, 2, 1)


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is spent.

    Args:
        images: Number of training images.
        epochs: Number of epochs of a student.
        teacher_images: Number of training images of the teacher.
        teacher_epochs: Number of epochs of the teacher.
        attacked: Number of test images that are attacked.
        held_out: Number of training images left out, for the curves.
    """

    images: int
    epochs: int
    teacher_images: int
    teacher_epochs: int
    attacked: int
    held_out: int


BUDGETS = {
    # To see that all works.
    "tiny": Budget(64, 2, 128, 1, 8, 32),
    "small": Budget(12_000, 6, 20_000, 6, 500, 500),
    # Its teacher is that of "small": copy `teacher-0.*` to save the time.
    "longer": Budget(12_000, 18, 20_000, 6, 500, 500),
    "full": Budget(59_000, 40, 59_000, 40, 2_000, 1_000),
}


# The methods: functions of teacher, student and epochs that return a model
# whose `fit` trains the student.


def methods():
    import keras_adaad as ka

    return {
        "plain training": lambda teacher, student, epochs: student,
        "plain distillation": plain_distillation,
        "PGD-AT": robust(ka.PGDAT),
        "TRADES": robust(ka.TRADES),
        "ARD": robust(ka.ARD),
        "IAD": robust(ka.IAD),
        "RSLAD": robust(ka.RSLAD),
        "AdaAD": robust(ka.AdaAD),
        "AdaAD, twice the radius": robust(ka.AdaAD, radius=2 * EPSILON),
        "AdaIAD": robust(ka.AdaIAD),
        "SAAD": robust(ka.SAAD),
        "AdaAD + IGDM": robust(ka.AdaAD, regularizers=[ka.IGDM()]),
    }


def robust(cls, radius=EPSILON, **options):
    import keras_adaad
    from benchmarks.methods import counted_in_epochs
    from benchmarks.methods import scaled_attack

    def make(teacher, student, epochs):
        distils = issubclass(cls, keras_adaad.Distiller)
        return cls(
            *((teacher, student) if distils else (student,)),
            attack=scaled_attack(cls, radius),
            evaluation_attack=keras_adaad.attacks.get(
                "pgd-10", epsilon=EPSILON
            ),
            **counted_in_epochs(cls.__name__, epochs),
            **options,
        )

    return make


def plain_distillation(teacher, student, epochs):
    import keras

    distiller = keras.distillation.Distiller(
        teacher,
        student,
        distillation_losses=keras.distillation.LogitsDistillation(
            loss=keras.losses.KLDivergence()
        ),
        student_loss_weight=0.1,
    )
    # `BackupAndRestore` needs its variables, and `fit` makes them too late.
    distiller.build(student.input_shape)
    return distiller


# A run: training, then the attacks.


def run(method, seed, budget, data, folder):
    """Trains and attacks one student; writes the run's JSON."""
    import keras

    import keras_adaad
    from keras_adaad.callbacks.whole_file import write_whole

    path = folder / f"{file_name(method)}-{seed}.json"
    config = configuration(method, seed, budget)
    if path.exists():
        return check_same(json.loads(path.read_text())["config"], config, path)
    print(f"\n{method}, seed {seed}", flush=True)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    if method == "teacher":
        network = make_network(TEACHER, method)
        images, epochs = data["teacher"], budget.teacher_epochs
        trainer = robust(keras_adaad.PGDAT)(None, network, epochs)
    else:
        teacher = keras.saving.load_model(folder / "teacher-0.keras")
        network = make_network(STUDENT, "student")
        images, epochs = data["student"], budget.epochs
        trainer = methods()[method](teacher, network, epochs)
    work = folder / "unfinished" / path.stem
    history = train(trainer, epochs, images, data["held out"], work)
    reports = attack(network, data["test"], work)
    network.save(path.with_suffix(".keras"))
    result = {
        "config": config,
        "parameters": network.count_params(),
        "environment": environment(),
        "history": history,
        "reports": {name: r.to_dict() for name, r in reports.items()},
    }
    write_whole(path, lambda part: part.write_text(json.dumps(result)))
    shutil.rmtree(work)


def train(trainer, epochs, images, held_out, work):
    """Trains, from the last epoch that was done; returns every epoch's logs."""
    import keras

    work.mkdir(parents=True, exist_ok=True)
    steps = epochs * -(-len(images[0]) // BATCH_SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    loss = {}
    if not hasattr(trainer, "perturb"):
        loss["loss"] = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        )
    trainer.compile(
        keras.optimizers.Adam(schedule), metrics=["accuracy"], **loss
    )
    log = work / "log.csv"
    trainer.fit(
        *images,
        validation_data=held_out,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        callbacks=[
            seconds_per_epoch(),
            keras.callbacks.CSVLogger(log, append=True),
            keras.callbacks.BackupAndRestore(
                work / "backup", delete_checkpoint=False
            ),
        ],
        verbose=2,
    )
    with log.open() as file:
        rows = [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
    # Killed between log and backup, a run writes an epoch again.
    return list({row["epoch"]: row for row in rows}.values())


def seconds_per_epoch():
    """Returns a callback that logs the seconds of training, not validation."""
    import keras

    class Seconds(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begin = self.end = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.end = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            logs["seconds"] = self.end - self.begin

    return Seconds()


def attack(network, test, work):
    """Returns the reports of the short attacks and of AutoAttack."""
    import keras_adaad

    attacks = {
        "short": ["fgsm", "pgd-20-sat", "cw"],
        "autoattack": ["autoattack"],
    }
    return {
        name: keras_adaad.evaluate_robustness(
            network,
            *test,
            names,
            EPSILON,
            individual=name == "short",
            reliability_checks=name == "autoattack",
            curve=False,
            state_path=work / f"{name}.npz",
            verbose=0,
        )
        for name, names in attacks.items()
    }


def make_network(widths, name):
    from benchmarks import networks

    return networks.conv_net(widths, name=name, strides=STRIDES)


# What a run is, in its JSON.


def configuration(method, seed, budget):
    import keras

    spent = dataclasses.asdict(budget)
    if method == "teacher":
        del spent["images"], spent["epochs"]
    return {
        "method": method,
        "seed": seed,
        "backend": keras.config.backend(),
        "epsilon": EPSILON,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "widths": list(TEACHER if method == "teacher" else STUDENT),
        **spent,
    }


def check_same(found, wanted, path):
    """Refuses runs of another configuration in the same folder."""
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        raise SystemExit(
            f"{path} is a run with other values of {other}. Give another "
            "--output, or the options of that run."
        )


def environment():
    import keras

    import keras_adaad

    return {
        "keras_adaad": keras_adaad.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
        "cores": len(cores()),
    }


def file_name(method):
    return method.replace(" + ", "-").replace(", ", "-").replace(" ", "-")


# The images.


def load_data(budget, folder=None):
    """Returns pairs of images in [0, 1] and labels, by what they are for."""
    if folder is None:
        import keras

        train, test = keras.datasets.fashion_mnist.load_data()
    else:
        train, test = (read_files(folder, name) for name in ("train", "t10k"))
    parts = {
        "teacher": (train, slice(0, budget.teacher_images)),
        "student": (train, slice(0, budget.images)),
        "held out": (train, slice(-budget.held_out, None)),
        "test": (test, slice(0, budget.attacked)),
    }
    return {
        name: (prepare(images[part]), labels[part].astype("int32"))
        for name, ((images, labels), part) in parts.items()
    }


def prepare(images):
    return (images[..., None] / 255).astype("float32")


def read_files(folder, name):
    """Reads images and labels from a pair of the original files."""
    arrays = []
    for kind, header, shape in (
        ("images-idx3", 16, (-1, 28, 28)),
        ("labels-idx1", 8, (-1,)),
    ):
        path = pathlib.Path(folder, f"{name}-{kind}-ubyte.gz")
        with gzip.open(path) as file:
            values = np.frombuffer(file.read(), "uint8", offset=header)
        arrays.append(values.reshape(shape))
    return arrays


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--budget", choices=BUDGETS, default="small")
    parser.add_argument("--methods", nargs="+", help="all if not given")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--backend", help="tensorflow, jax or torch")
    parser.add_argument("--data", help="folder with the original files")
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        help="runs at a time, each on its own cores: small networks leave\n"
        "cores idle that they share",
    )
    parser.add_argument(
        "--output", type=pathlib.Path, default="results/fashion_mnist"
    )
    arguments = parser.parse_args()
    if arguments.backend:
        os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    study(
        BUDGETS[arguments.budget],
        arguments.methods,
        arguments.seeds,
        arguments.data,
        arguments.output / arguments.budget,
        in_processes(arguments) if arguments.processes > 1 else one_by_one,
    )


def one_by_one(runs, data, budget, output):
    for method, seed in runs:
        run(method, seed, budget, data, output)


def in_processes(arguments):
    """Returns a function that does each run in a process with its cores."""
    free = queue.SimpleQueue()
    for first in range(arguments.processes):
        free.put(cores()[first :: arguments.processes])
    options = ["--budget", arguments.budget, "--output", arguments.output]
    if arguments.data:
        options += ["--data", arguments.data]

    def process(job):
        method, seed = job
        mine = free.get()
        command = ["-m", "benchmarks.fashion_mnist", "--methods", method]
        command += ["--seeds", seed, *options]
        folder = arguments.output / arguments.budget
        log = folder / f"{file_name(method)}-{seed}.log"
        print(f"{method}, seed {seed}: see {log}", flush=True)
        with log.open("w") as file:
            subprocess.run(
                [sys.executable, "-u", *map(str, command)],
                preexec_fn=lambda: keep_to(mine),
                stdout=file,
                stderr=subprocess.STDOUT,
                check=True,
            )
        free.put(mine)

    def run_all(runs, data, budget, output):
        with futures.ThreadPoolExecutor(arguments.processes) as pool:
            list(pool.map(process, runs))

    return run_all


def cores():
    """Returns the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


def keep_to(numbers):
    # Not every system lets a process choose its cores.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, numbers)


def study(budget, only, seeds, data_folder, output, run_all=one_by_one):
    from benchmarks import fashion_mnist_report

    known = methods()
    unknown = set(only or ()) - set(known)
    if unknown:
        raise SystemExit(
            f"Unknown: {', '.join(sorted(unknown))}. The methods are "
            f"{', '.join(known)}."
        )
    begin = time.time()
    data = load_data(budget, data_folder)
    output.mkdir(parents=True, exist_ok=True)
    run("teacher", 0, budget, data, output)
    runs = [(method, seed) for seed in seeds for method in only or known]
    run_all(runs, data, budget, output)
    print(f"\n{(time.time() - begin) / 60:.0f} minutes\n")
    fashion_mnist_report.show(output)


if __name__ == "__main__":
    main()
