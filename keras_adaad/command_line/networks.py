"""The teacher and the student of `keras-adaad distil`."""

import pathlib
from collections.abc import Callable

import keras

from keras_adaad import checks
from keras_adaad import methods
from keras_adaad import models
from keras_adaad import zoo
from keras_adaad.command_line.errors import naming
from keras_adaad.zoo.load import fetch

STUDENTS: dict[str, Callable[..., keras.Model]] = {
    "resnet18": models.ResNet18,
    "mobilenetv2": models.MobileNetV2,
    "preactresnet18": models.PreActResNet18,
}
THREAT_MODEL = "Linf"


def make_distiller(experiment, arguments, steps_per_epoch):
    """Returns the compiled method of the recipe."""
    recipe = experiment.recipe.with_epochs(arguments.epochs)
    with naming(f"--teacher {arguments.teacher}"):
        teacher = load_teacher(experiment, arguments)
        checks.check_model("teacher", teacher)
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
        threat_model=THREAT_MODEL,
        download=arguments.download,
    )


def make_student(arguments, teacher):
    """Returns a student for the images and the classes of the teacher."""
    return new_student(
        arguments.student, teacher.input_shape[1:], teacher.output_shape[-1]
    )


def new_student(name, shape, num_classes):
    """Returns the model of a `.keras` file, or a new network by its name."""
    check_student(name)
    if name.endswith(".keras"):
        return keras.models.load_model(name)
    return STUDENTS[name](shape, num_classes)


def check_teacher(name, dataset, checkpoint, download):
    """Raises unless there is a file, or one may be downloaded."""
    if name.endswith(".keras"):
        _check_file(name)
        return
    entry = zoo.entry(name, dataset, THREAT_MODEL)
    if not download:
        fetch(entry, checkpoint)


def check_student(name):
    """Raises unless a network has this name, or it is that of a file."""
    if name.endswith(".keras"):
        _check_file(name)
    elif name not in STUDENTS:
        raise ValueError(f"give {', '.join(STUDENTS)}, or a .keras file.")


def _check_file(name):
    if not pathlib.Path(name).is_file():
        raise ValueError("there is no such file. Give a .keras file.")
