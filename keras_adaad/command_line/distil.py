"""`keras-adaad distil`, which the CIFAR and Tiny-ImageNet examples run too.

A run keeps everything in one folder: `log.csv` and `tensorboard/` (if
TensorFlow is installed), `backup/` (to resume from), `best.keras` and
`last.keras` (the students of the best and of the last epoch), and after
AutoAttack `report.json`, `robustness.png` (if Matplotlib is installed) and
`student.keras`, which is the best student. The same command resumes a killed
run after the last epoch or attack that was completed.
"""

import importlib.util
import pathlib
import shutil
import types
from collections.abc import Callable

import click
import keras

from keras_adaad import callbacks
from keras_adaad import methods
from keras_adaad import models
from keras_adaad import recipes
from keras_adaad import zoo
from keras_adaad.command_line.data import load
from keras_adaad.command_line.devices import device_scope
from keras_adaad.command_line.duplicates import flags_of_copies
from keras_adaad.command_line.duplicates import flags_of_extra
from keras_adaad.command_line.errors import bad_input
from keras_adaad.command_line.errors import naming
from keras_adaad.command_line.evaluate import verbosity
from keras_adaad.command_line.experiment import Experiment
from keras_adaad.command_line.experiment import check_labels
from keras_adaad.command_line.experiment import load_data
from keras_adaad.command_line.experiment import load_test
from keras_adaad.command_line.run_folder import check_same_run
from keras_adaad.command_line.run_folder import digests_of
from keras_adaad.command_line.run_folder import resume_log
from keras_adaad.command_line.run_folder import write_flags
from keras_adaad.evaluation import evaluate_robustness
from keras_adaad.training.settings import constructor_arguments
from keras_adaad.writing import write_atomically

STUDENTS: dict[str, Callable[..., keras.Model]] = {
    "resnet18": models.ResNet18,
    "mobilenetv2": models.MobileNetV2,
    "preactresnet18": models.PreActResNet18,
}
# Options whose default is the value of the recipe.
OF_RECIPE = (
    *("teacher", "student", "epochs", "batch_size", "padding", "epsilon"),
)


def _has_one_teacher(recipe):
    method = getattr(methods, recipe.method)
    networks = {"teacher", "clean_teacher", "peer"}
    return networks & constructor_arguments(method) == {"teacher"}


# Of one teacher and one student, whose last weights are not averaged.
RECIPES = {
    f"{name}/{dataset}": recipe
    for name, dataset in recipes.list_recipes()
    for recipe in [recipes.get(name, dataset)]
    if _has_one_teacher(recipe) and recipe.average_text() == "no"
}


def distil(recipe, data, **flags):
    """Runs a published recipe, given as `"AdaAD/cifar10"`."""
    if recipe not in RECIPES:
        raise click.UsageError(
            f"--recipe {recipe}: give one of {', '.join(RECIPES)}. Others have "
            "no teacher, two, or averaged weights: see keras_adaad.recipes."
        )
    data = data or RECIPES[recipe].dataset
    experiment = Experiment(RECIPES[recipe], _load)
    run(experiment, recipe=recipe, data=data, **flags)


def _load(arguments, split, **options):
    given = f"--data {arguments.data} --hold-out {arguments.hold_out}"
    if arguments.limit is not None:
        given += f" --limit {arguments.limit}"
    with naming(given):
        return load(
            arguments.data,
            split,
            arguments.data_dir,
            arguments.download,
            **options,
        )


def run(experiment, **flags):
    """Distils, selects a student, attacks it, and reports."""
    arguments = complete(experiment.recipe, flags)
    check_same_run(arguments, experiment.recipe)
    keras.utils.set_random_seed(arguments.seed)
    flags = train(experiment, arguments)
    evaluate(experiment, arguments, flags)


def complete(recipe, flags):
    """Returns the flags, with the recipe's values where they have none."""
    arguments = types.SimpleNamespace(**flags)
    for name in OF_RECIPE:
        if flags[name] is None:
            setattr(arguments, name, getattr(recipe, name))
    if arguments.teacher is None:
        raise click.UsageError(
            "--teacher is missing, and the recipe names none. Give the id of "
            "a RobustBench model, or a .keras file."
        )
    if arguments.teacher_checkpoint and arguments.teacher.endswith(".keras"):
        raise click.UsageError(
            f"--teacher-checkpoint {arguments.teacher_checkpoint} is for a "
            f"model of RobustBench, and --teacher {arguments.teacher} is a "
            "file. Give one of them."
        )
    if arguments.extra_fraction is None:
        arguments.extra_fraction = 0.7
    elif arguments.extra is None:
        raise click.UsageError(
            f"--extra-fraction {arguments.extra_fraction} is the share of a "
            "batch that is from --extra, and --extra is missing. Give both."
        )
    if arguments.hold_out % arguments.devices:
        raise click.UsageError(
            f"--hold-out {arguments.hold_out} must be a multiple of --devices "
            f"{arguments.devices}, which share each batch."
        )
    if not arguments.student.endswith(".keras"):
        arguments.student = arguments.student.lower()
    if arguments.output is None:
        name = f"{recipe.dataset}_{recipe.name.lower()}"
        arguments.output = pathlib.Path("results", name)
    arguments.sha256 = digests_of(arguments)
    return arguments


# The run.


def train(experiment, arguments):
    """Trains to the last epoch, from where an earlier call was killed.

    Returns:
        The flags that the training gives the report.
    """
    train_set, validation = load_data(experiment, arguments)
    with device_scope(arguments.devices):
        distiller = make_distiller(experiment, arguments, len(train_set))
    # They would fail after the training.
    x_test = check_labels(experiment, arguments, distiller.student)
    output = arguments.output
    # Not before: a call that failed so far has begun no run.
    output.mkdir(parents=True, exist_ok=True)
    # Of --select-on-test, the images held out are the test images.
    own = [] if arguments.select_on_test else [validation]
    flags = {
        **flags_of_copies([train_set, *own], x_test),
        **flags_of_extra(arguments, x_test),
    }
    best_so_far = resume_log(output)
    write_flags(arguments)
    used = [
        callbacks.StudentCheckpoint(
            output / "best.keras",
            monitor="val_robust_accuracy",
            mode="max",
            save_best_only=True,
            initial_value_threshold=best_so_far,
        ),
        keras.callbacks.CSVLogger(output / "log.csv", append=True),
    ]
    if importlib.util.find_spec("tensorflow"):
        used.append(keras.callbacks.TensorBoard(output / "tensorboard"))
    # Last, so that an epoch counts as done once all of it is on disk. Never
    # deleted, so that a finished run does not train again.
    used.append(
        keras.callbacks.BackupAndRestore(
            output / "backup", double_checkpoint=True, delete_checkpoint=False
        )
    )
    try:
        distiller.fit(
            train_set,
            validation_data=validation,
            epochs=arguments.epochs,
            callbacks=used,
            verbose=verbosity(),
        )
    except ValueError as error:
        name = getattr(arguments, "data", experiment.recipe.dataset)
        raise bad_input(f"--data {name}", error) from error
    write_atomically(output / "last.keras", distiller.student.save)
    return flags


def evaluate(experiment, arguments, flags):
    """Attacks the best student on test images, on one device."""
    if keras.config.backend() == "jax":
        keras.distribution.set_distribution(None)
    output = arguments.output
    student = keras.models.load_model(output / "best.keras")
    x_test, y_test = load_test(experiment, arguments)
    images = arguments.autoattack_images
    if images is not None and images < len(x_test):
        # Those of `keras-adaad evaluate`: at random, where the images may be
        # sorted by class.
        x_test, y_test = load_test(experiment, arguments, images)
    try:
        report = evaluate_robustness(
            student,
            x_test,
            y_test,
            ["pgd", "autoattack"],
            arguments.epsilon,
            seed=arguments.seed,
            state_path=output / f"attacks_{len(x_test)}.npz",
            verbose=verbosity(),
        )
    except ValueError as error:
        raise bad_input(f"--output {output}", error) from error
    if arguments.select_on_test:
        report.flags["selected_on_test"] = (
            "the epoch was chosen by its accuracy on these test images, so the "
            "accuracy is too high (--select-on-test)"
        )
    report.flags.update(flags)
    report.save(output / "report.json")
    print(report)
    for line in published(experiment.recipe, arguments):
        print(line)
    if importlib.util.find_spec("matplotlib"):
        report.plot(output / "robustness.png")
    shutil.copy(output / "best.keras", output / "student.keras")
    print(f"\nWrote {output / 'student.keras'} and {output / 'report.json'}")


def published(recipe, arguments):
    """Returns what papers report for this recipe, data set and epsilon."""
    same_data = getattr(arguments, "data", recipe.dataset) == recipe.dataset
    if not same_data or arguments.epsilon != recipe.epsilon:
        return []
    results = recipes.published_results(recipe.name, recipe.dataset)
    return [f"published: {result}" for result in results]


# The parts of a run.


def make_distiller(experiment, arguments, steps_per_epoch):
    """Returns the compiled method of the recipe."""
    recipe = experiment.recipe.with_epochs(arguments.epochs)
    with naming(f"--teacher {arguments.teacher}"):
        teacher = load_teacher(experiment, arguments)
    with naming(f"--student {arguments.student}"):
        student = make_student(arguments, teacher)
        distiller = getattr(methods, recipe.method)(
            teacher,
            student,
            **recipe.arguments(arguments.epsilon, arguments.seed),
        )
    distiller.compile(recipe.optimizer(steps_per_epoch), metrics=["accuracy"])
    return distiller


def load_teacher(experiment, arguments):
    """Returns the model of a `.keras` file, or of RobustBench."""
    if arguments.teacher.endswith(".keras"):
        return keras.models.load_model(arguments.teacher)
    return zoo.load_robustbench(
        arguments.teacher,
        checkpoint=arguments.teacher_checkpoint,
        dataset=experiment.recipe.dataset,
        threat_model="Linf",
        download=arguments.download,
    )


def make_student(arguments, teacher):
    """Returns a student for the images and the classes of the teacher."""
    return new_student(
        arguments.student, teacher.input_shape[1:], teacher.output_shape[-1]
    )


def new_student(name, shape, num_classes):
    """Returns the model of a `.keras` file, or a new network by its name."""
    if name.endswith(".keras"):
        return keras.models.load_model(name)
    if name not in STUDENTS:
        raise ValueError(f"give {', '.join(STUDENTS)}, or a .keras file.")
    return STUDENTS[name](shape, num_classes)
