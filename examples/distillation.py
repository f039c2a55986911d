"""A run of the CIFAR and Tiny-ImageNet examples, from flags to report.

A run keeps everything in one folder: `log.csv` and `tensorboard/` (if
TensorFlow is installed), `backup/` (to resume from), `best.keras` and
`last.keras` (the students of the best and of the last epoch), and after
AutoAttack `report.json`, `robustness.png` and `student.keras`, which is the
best student. The same command resumes a killed run after the last epoch or
attack that was completed.
"""

import argparse
import contextlib
import csv
import dataclasses
import fractions
import importlib.util
import json
import pathlib
import shutil
import sys
from collections.abc import Callable

import keras

import keras_adaad
from keras_adaad import data
from keras_adaad import recipes
from keras_adaad import zoo

STUDENTS = {
    "resnet18": keras_adaad.models.ResNet18,
    "mobilenetv2": keras_adaad.models.MobileNetV2,
    "preactresnet18": keras_adaad.models.PreActResNet18,
}

# Divides the 1,000 and the 10,000 images that students are evaluated on.
VALIDATION_BATCH_SIZE = 200


@dataclasses.dataclass
class Experiment:
    """A recipe, and the other settings of a data set.

    Args:
        recipe: The `keras_adaad.recipes.Recipe`.
        image_shape: Shape of an image.
        num_classes: Number of classes.
        load: Function of the flags, a split and the options of
            `keras_adaad.data.load_arrays` that returns a data set.
        test: Name of the test split.
    """

    recipe: recipes.Recipe
    image_shape: tuple
    num_classes: int
    load: Callable
    test: str = "test"


def run(experiment):
    """Distils, selects a student, attacks it, and reports."""
    arguments = parse_arguments(experiment.recipe)
    arguments.output.mkdir(parents=True, exist_ok=True)
    check_same_run(arguments)
    keras.utils.set_random_seed(arguments.seed)
    train(experiment, arguments)
    evaluate(experiment, arguments)


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
        default=recipe.student.lower(),
        help=f"{', '.join(STUDENTS)}, or a .keras file to start from",
    )
    add("--data-dir", help="where the data set is")
    add(
        "--download",
        action="store_true",
        help="fetch the data set and the teacher where they are missing",
    )
    add(
        "--epochs",
        default=recipe.epochs,
        type=int,
        help="drops scale with them",
    )
    add(
        "--batch-size",
        default=recipe.batch_size,
        type=int,
        help="of all devices together",
    )
    add(
        "--epsilon",
        default=recipe.epsilon,
        type=lambda text: float(fractions.Fraction(text)),
        help="radius of the attack; the step size scales with it",
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


def train(experiment, arguments):
    train_set, validation = load_data(experiment, arguments)
    with device_scope(arguments.devices):
        distiller = make_distiller(experiment, arguments, len(train_set))
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
    # Last, so that an epoch counts as done once all of it is on disk. Never
    # deleted, so that a finished run does not train again.
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


def evaluate(experiment, arguments):
    """Attacks the best student on test images, on one device."""
    if keras.config.backend() == "jax":
        keras.distribution.set_distribution(None)
    output = arguments.output
    student = keras.models.load_model(output / "best.keras")
    images = arguments.autoattack_images
    split = (
        experiment.test if images is None else f"{experiment.test}[:{images}]"
    )
    x_test, y_test = data.to_arrays(experiment.load(arguments, split))
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
        The best validation accuracy of the remaining rows, or `None`.
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


# The parts of a run.


def load_data(experiment, arguments):
    """Returns the training and the validation set."""
    start = 0 if arguments.select_on_test else arguments.hold_out
    stop = start + arguments.limit if arguments.limit else ""
    held_out = f"train[:{start}]"
    if arguments.select_on_test:
        held_out = experiment.test
    extra = {}
    if arguments.extra:
        extra["extra"] = arguments.extra
        extra["extra_fraction"] = arguments.extra_fraction
    train_set = experiment.load(
        arguments,
        f"train[{start}:{stop}]",
        batch_size=arguments.batch_size,
        training=True,
        padding=experiment.recipe.padding,
        seed=arguments.seed,
        # A batch is split among the devices.
        drop_remainder=arguments.devices > 1,
        **extra,
    )
    validation = experiment.load(
        arguments, held_out, batch_size=VALIDATION_BATCH_SIZE
    )
    return train_set, validation


def make_distiller(experiment, arguments, steps_per_epoch):
    recipe = experiment.recipe
    distiller = getattr(keras_adaad, recipe.method)(
        load_teacher(experiment, arguments),
        make_student(experiment, arguments),
        **recipe.arguments(arguments.epsilon, arguments.seed),
    )
    distiller.compile(
        recipe.optimizer(steps_per_epoch, arguments.epochs),
        metrics=["accuracy"],
    )
    return distiller


def load_teacher(experiment, arguments):
    if arguments.teacher.endswith(".keras"):
        return keras.models.load_model(arguments.teacher)
    return zoo.load_robustbench(
        arguments.teacher,
        checkpoint=arguments.teacher_checkpoint,
        dataset=experiment.recipe.dataset,
        threat_model="Linf",
        download=arguments.download,
    )


def make_student(experiment, arguments):
    if arguments.student.endswith(".keras"):
        return keras.models.load_model(arguments.student)
    if arguments.student not in STUDENTS:
        raise SystemExit(
            f"--student must be one of {', '.join(STUDENTS)}, or a .keras "
            f"file, not {arguments.student}."
        )
    return STUDENTS[arguments.student](
        experiment.image_shape, experiment.num_classes
    )


def device_scope(number):
    """Returns the scope in which to create the models of a run.

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
