"""What the CIFAR and Tiny-ImageNet examples share: a run, from flags to report.

A run keeps everything in one folder: `log.csv` and `tensorboard/` (where
TensorFlow is installed), `backup/` (to resume from), `best.keras` and
`last.keras` (the students of the best and of the last epoch), and after
AutoAttack `report.json`, `robustness.png` and `student.keras`, which is the
best student. The same command goes on where a killed run was, at the last
epoch or attack that was done.
"""

import argparse
import contextlib
import csv
import dataclasses
import fractions
import importlib.util
import json
import math
import pathlib
import shutil
import sys
from collections.abc import Callable

import keras

import keras_adaad
from keras_adaad import data
from keras_adaad import zoo

STUDENTS = {
    "resnet18": keras_adaad.models.ResNet18,
    "mobilenetv2": keras_adaad.models.MobileNetV2,
    "preactresnet18": keras_adaad.models.PreActResNet18,
}

# Divides the 1,000 and the 10,000 images that students are measured on.
VALIDATION_BATCH_SIZE = 200


@dataclasses.dataclass
class Recipe:
    """What is specific to a data set.

    Args:
        dataset: Its name.
        image_shape: Shape of an image.
        num_classes: Number of classes.
        reduction: Of `keras_adaad.AdaAD`.
        load: Function of the flags, a split and the options of
            `keras_adaad.data.load_arrays` that returns a data set.
        test: Name of the test split.
        teacher: Id of a RobustBench model, or `None` to ask for one.
        student: Name of the student.
        padding: Zero pixels on each side before the random crop.
    """

    dataset: str
    image_shape: tuple
    num_classes: int
    reduction: str
    load: Callable
    test: str = "test"
    teacher: str | None = None
    student: str = "resnet18"
    padding: int = 4


def run(recipe):
    """Distils, selects a student, attacks it, and reports."""
    arguments = parse_arguments(recipe)
    arguments.output.mkdir(parents=True, exist_ok=True)
    check_same_run(arguments)
    keras.utils.set_random_seed(arguments.seed)
    train(recipe, arguments)
    evaluate(recipe, arguments)


def parse_arguments(recipe):
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add(
        "--teacher",
        default=recipe.teacher,
        required=recipe.teacher is None,
        help="id of a RobustBench model, or a .keras file",
    )
    add("--teacher-checkpoint", help="file of the RobustBench model")
    add(
        "--student",
        default=recipe.student,
        help=f"{', '.join(STUDENTS)}, or a .keras file to start from",
    )
    add("--data-dir", help="where the data set is")
    add(
        "--download",
        action="store_true",
        help="fetch the data set and the teacher where they are missing",
    )
    add("--epochs", default=200, type=int, help="drops scale with them")
    add("--batch-size", default=128, type=int, help="of all devices together")
    add(
        "--epsilon",
        default="8/255",
        type=lambda text: float(fractions.Fraction(text)),
        help="radius of the attack; a step is a quarter of it",
    )
    add("--seed", default=0, type=int)
    add("--extra", help=".npz file of more training images, maybe unlabelled")
    add(
        "--extra-fraction",
        default=0.7,
        type=float,
        help="share of a batch that is from --extra",
    )
    add(
        "--output",
        default=f"results/{recipe.dataset}_adaad",
        type=pathlib.Path,
        help="folder of the run",
    )
    add(
        "--devices",
        default=1,
        type=int,
        help="number of GPUs or TPU cores; with TensorFlow, BatchNorm sees "
        "the part of the batch that is on its device",
    )
    add(
        "--hold-out",
        default=1000,
        type=int,
        help="number of training images that select the best epoch",
    )
    add(
        "--select-on-test",
        action="store_true",
        help="hold out nothing and select the epoch with the best PGD-10 "
        "accuracy on the test set, as the reference code does; the test "
        "accuracy of that epoch is then too good, because the test set chose "
        "it",
    )
    add(
        "--autoattack-images",
        type=int,
        help="number of test images to attack; all if not given",
    )
    add(
        "--limit",
        type=int,
        help="number of training images, for a quick look; all if not given",
    )
    return parser.parse_args()


def check_same_run(arguments):
    """Refuses to resume a run that was started with other flags."""
    free = ("output", "data_dir", "download", "autoattack_images")
    flags = {k: v for k, v in vars(arguments).items() if k not in free}
    path = arguments.output / "arguments.json"
    if not path.exists():
        path.write_text(json.dumps(flags, indent=1))
    before = json.loads(path.read_text())
    other = [name for name in flags if before.get(name) != flags[name]]
    if other:
        raise SystemExit(
            f"{arguments.output} is a run with other values of {other}. Give "
            "another --output, or the flags of that run: see arguments.json."
        )


# The run.


def train(recipe, arguments):
    train_set, validation = load_data(recipe, arguments)
    with device_scope(arguments.devices):
        distiller = make_distiller(recipe, arguments, len(train_set))
    output = arguments.output
    best_so_far = resume_log(output)
    callbacks = [
        data.SetEpoch(train_set),
        keras_adaad.callbacks.StudentCheckpoint(
            output / "best.keras",
            monitor="val_robust_accuracy",
            mode="max",
            save_best_only=True,
            initial_value_threshold=best_so_far,
        ),
        keras.callbacks.CSVLogger(output / "log.csv", append=True),
    ]
    if importlib.util.find_spec("tensorflow"):
        callbacks.append(keras.callbacks.TensorBoard(output / "tensorboard"))
    # Last, so that an epoch counts as done when all of it is on disk. Never
    # deleted, so that a run that is done trains no more.
    callbacks.append(
        keras.callbacks.BackupAndRestore(
            output / "backup", double_checkpoint=True, delete_checkpoint=False
        )
    )
    distiller.fit(
        train_set,
        validation_data=validation,
        epochs=arguments.epochs,
        shuffle=False,
        callbacks=callbacks,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    distiller.student.save(output / "last.keras")


def evaluate(recipe, arguments):
    """Attacks the best student on test images, on one device."""
    if keras.config.backend() == "jax":
        keras.distribution.set_distribution(None)
    output = arguments.output
    student = keras.models.load_model(output / "best.keras")
    images = arguments.autoattack_images
    split = recipe.test if images is None else f"{recipe.test}[:{images}]"
    x_test, y_test = data.to_arrays(recipe.load(arguments, split))
    report = keras_adaad.evaluate_robustness(
        student,
        x_test,
        y_test,
        ["pgd", "autoattack"],
        arguments.epsilon,
        seed=arguments.seed,
        state_path=output / f"attacks_{len(x_test)}.npz",
        verbose=1 if sys.stdout.isatty() else 0,
    )
    print(report)
    report.save(output / "report.json")
    report.plot(output / "robustness.png")
    shutil.copy(output / "best.keras", output / "student.keras")
    print(f"\nWrote {output / 'student.keras'} and {output / 'report.json'}")


def resume_log(output):
    """Drops the log's rows of epochs that will be run again.

    Returns:
        The best validation accuracy of the rows that stay, or `None`:
        `save_best_only` does not remember it.
    """
    log, epoch = output / "log.csv", 0
    backup = output / "backup" / "training_metadata.json"
    if backup.exists():
        epoch = json.loads(backup.read_text())["epoch"]
    if not log.exists():
        return None
    lines = log.read_text().splitlines(keepends=True)
    rows = [row for row in csv.DictReader(lines) if int(row["epoch"]) < epoch]
    log.write_text("".join(lines[: 1 + len(rows)]))
    accuracies = [float(row["val_robust_accuracy"]) for row in rows]
    return max(accuracies, default=None)


# Its parts.


def load_data(recipe, arguments):
    """Returns the training and the validation set."""
    start = 0 if arguments.select_on_test else arguments.hold_out
    stop = start + arguments.limit if arguments.limit else ""
    held_out = f"train[:{start}]"
    if arguments.select_on_test:
        held_out = recipe.test
    extra = {}
    if arguments.extra:
        extra["extra"] = arguments.extra
        extra["extra_fraction"] = arguments.extra_fraction
    train_set = recipe.load(
        arguments,
        f"train[{start}:{stop}]",
        batch_size=arguments.batch_size,
        training=True,
        padding=recipe.padding,
        seed=arguments.seed,
        **extra,
    )
    validation = recipe.load(
        arguments, held_out, batch_size=VALIDATION_BATCH_SIZE
    )
    return train_set, validation


def make_distiller(recipe, arguments, steps_per_epoch):
    attack = keras_adaad.attacks.PGD(
        epsilon=arguments.epsilon,
        step_size=arguments.epsilon / 4,
        steps=10,
        start="normal",
        start_scale=0.001,
        clip_start=False,
        seed=arguments.seed,
    )
    distiller = keras_adaad.AdaAD(
        load_teacher(recipe, arguments),
        make_student(recipe, arguments),
        attack,
        alpha=1.0,
        reduction=recipe.reduction,
    )
    optimizer = keras_adaad.optimizers.CoupledSGD(
        make_schedule(arguments.epochs, steps_per_epoch),
        momentum=0.9,
        weight_decay=5e-4,
    )
    distiller.compile(optimizer, metrics=["accuracy"])
    return distiller


def make_schedule(epochs, steps_per_epoch):
    """Returns 0.1, a tenth of it from half of the epochs, and from 3/4."""
    # A drop is after the step it names, the last one of an epoch.
    drops = [
        math.ceil(share * epochs) * steps_per_epoch - 1 for share in (0.5, 0.75)
    ]
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        drops, [0.1, 0.01, 0.001]
    )


def load_teacher(recipe, arguments):
    if arguments.teacher.endswith(".keras"):
        return keras.models.load_model(arguments.teacher)
    return zoo.load_robustbench(
        arguments.teacher,
        checkpoint=arguments.teacher_checkpoint,
        dataset=recipe.dataset,
        threat_model="Linf",
        download=arguments.download,
    )


def make_student(recipe, arguments):
    if arguments.student.endswith(".keras"):
        return keras.models.load_model(arguments.student)
    if arguments.student not in STUDENTS:
        raise SystemExit(
            f"--student must be one of {', '.join(STUDENTS)}, or a .keras "
            f"file, not {arguments.student}."
        )
    return STUDENTS[arguments.student](recipe.image_shape, recipe.num_classes)


def device_scope(number):
    """Returns the scope in which the models of a run are made.

    A batch is split among the devices; the teacher is on each of them.
    """
    if number == 1:
        return contextlib.nullcontext()
    backend = keras.config.backend()
    if backend == "torch":
        raise SystemExit(
            "--devices needs TensorFlow or JAX: with PyTorch, `fit` of Keras "
            "3.15 runs on one device. Set KERAS_BACKEND."
        )
    if backend == "jax":
        devices = keras.distribution.list_devices()
    else:
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU")
        devices = devices or tf.config.list_logical_devices("CPU")
        devices = [device.name for device in devices]
    if len(devices) < number:
        raise SystemExit(
            f"--devices is {number}, and {backend} sees {len(devices)}."
        )
    if backend == "jax":
        distribution = keras.distribution.DataParallel(devices=devices[:number])
        keras.distribution.set_distribution(distribution)
        return contextlib.nullcontext()
    return tf.distribute.MirroredStrategy(devices[:number]).scope()
