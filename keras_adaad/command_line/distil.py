"""`keras-adaad distil`, which the CIFAR and Tiny-ImageNet examples run too.

A run keeps everything in one folder: `log.csv` and `tensorboard/` (if
TensorFlow is installed), `backup/` (to resume from), `best.keras` and
`last.keras` (the students of the best and of the last epoch), and after
AutoAttack `report.json`, `robustness.png` (if Matplotlib is installed) and
`student.keras`, which is the best student. The same command resumes a killed
run after the last epoch or attack that was completed.
"""

import importlib.util
import re
import shutil

import click
import keras

from keras_adaad import callbacks
from keras_adaad import methods
from keras_adaad import recipes
from keras_adaad.attacks.attack import check_attackable
from keras_adaad.command_line.data import load
from keras_adaad.command_line.data_checks import check_labels
from keras_adaad.command_line.devices import device_scope
from keras_adaad.command_line.distil_options import complete
from keras_adaad.command_line.duplicates import flags_of_copies
from keras_adaad.command_line.duplicates import flags_of_extra
from keras_adaad.command_line.errors import bad_input
from keras_adaad.command_line.errors import naming
from keras_adaad.command_line.evaluate import verbosity
from keras_adaad.command_line.experiment import Experiment
from keras_adaad.command_line.experiment import load_data
from keras_adaad.command_line.experiment import load_test
from keras_adaad.command_line.experiment import name_of_data
from keras_adaad.command_line.networks import make_distiller
from keras_adaad.command_line.run_folder import Backup
from keras_adaad.command_line.run_folder import check_same_run
from keras_adaad.command_line.run_folder import resume_log
from keras_adaad.evaluation import evaluate_robustness
from keras_adaad.training.settings import constructor_arguments
from keras_adaad.writing import write_atomically


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
    doubts = train(experiment, arguments)
    evaluate(experiment, arguments, doubts)


# The run.


def train(experiment, arguments):
    """Trains to the last epoch, from where an earlier call was killed.

    Returns:
        The flags that the training gives the report.
    """
    devices = device_scope(arguments.devices)
    train_set, validation = load_data(experiment, arguments)
    with devices:
        distiller = make_distiller(experiment, arguments, len(train_set))
    learnt = [train_set]
    if not arguments.select_on_test:
        learnt.append(validation)
    x_test = check_data(experiment, arguments, distiller, learnt)
    output = arguments.output
    # Not before: a call that failed so far has begun no run.
    output.mkdir(parents=True, exist_ok=True)
    doubts = {
        **flags_of_copies(learnt, x_test),
        **flags_of_extra(arguments, x_test),
    }
    used = callbacks_of(arguments, resume_log(output))
    try:
        distiller.fit(
            train_set,
            validation_data=validation,
            epochs=arguments.epochs,
            callbacks=used,
            verbose=verbosity(),
        )
    except ValueError as error:
        raise bad_input(
            _to_blame(error, experiment, arguments), error
        ) from error
    write_atomically(output / "last.keras", distiller.student.save)
    return doubts


def check_data(experiment, arguments, distiller, data_sets):
    """Raises if images or labels would fail later; returns the test images."""
    name = name_of_data(experiment.recipe, arguments)
    check_labels(arguments, name, distiller, data_sets)
    x_test, y_test = load_test(experiment, arguments)
    with naming(f"--data {name}"):
        check_attackable(distiller.student, x_test, y_test, (0.0, 1.0))
    return x_test


def callbacks_of(arguments, best_so_far):
    """Returns the callbacks that write into the folder of the run."""
    output = arguments.output
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
    # Last, so that an epoch counts as done once all of it is on disk.
    return [*used, Backup(arguments)]


def _to_blame(error, experiment, arguments):
    """Returns the option that an error of `fit` is about."""
    match = re.search("`(teacher|student)`", str(error))
    if match:
        return f"--{match[1]} {getattr(arguments, match[1])}"
    return f"--data {name_of_data(experiment.recipe, arguments)}"


def evaluate(experiment, arguments, doubts):
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
    report.flags.update(doubts)
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
    same_data = name_of_data(recipe, arguments) == recipe.dataset
    if not same_data or arguments.epsilon != recipe.epsilon:
        return []
    results = recipes.published_results(recipe.name, recipe.dataset)
    return [f"published: {result}" for result in results]
