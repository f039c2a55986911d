"""
Title: A robust student in two minutes
Description: Distil a robust teacher into a small student with AdaAD.
Accelerator: None

## Introduction

A robust *teacher* is trained on real handwritten digits with PGD adversarial
training. The same small *student* is then trained in three ways: plainly,
by plain distillation (Keras's own `keras.distillation`), and with AdaAD. A
table shows how accurate each is under attack, and a picture shows why.

    pip install -e ".[examples,tensorflow]"
    python examples/quickstart.py [--output FOLDER] [--epochs N]

Set `KERAS_BACKEND` to "tensorflow", "jax" or "torch"; the code is the same.
"""

import argparse
import os
import pathlib
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_adaad

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Pixels lie in [0, 1]; no pixel may move by more than this.
EPSILON = 0.2

"""
## The data and the networks

scikit-learn ships 1,797 digits of 8x8 pixels. Both networks return *logits*.
"""


def load_data():
    digits = load_digits()
    images = (digits.images / 16.0).astype("float32")[..., np.newaxis]
    labels = digits.target.astype("int32")
    return train_test_split(
        images, labels, test_size=0.25, random_state=0, stratify=labels
    )


def make_network(width, name):
    inputs = keras.Input((8, 8, 1))
    x = inputs
    for filters, strides in ((width, 1), (2 * width, 2), (2 * width, 1)):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(
            x
        )
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
        x = layers.ReLU()(x)
    outputs = layers.Dense(10)(layers.Flatten()(x))
    return keras.Model(inputs, outputs, name=name)


"""
## Four trainings

Each function returns the trained network. `PGDAT` and `AdaAD` are
`keras.Model`s with the usual `compile` and `fit`. The attack sets the epsilon
that they train with.
"""


def make_attack():
    return keras_adaad.attacks.PGD(
        epsilon=EPSILON, step_size=EPSILON / 4, steps=10, seed=0
    )


def make_optimizer(epochs, data):
    steps = epochs * -(-len(data[0]) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(4e-3, steps)
    return keras.optimizers.Adam(schedule)


def fit(model, data, epochs):
    x_train, _, y_train, _ = data
    verbose = 1 if sys.stdout.isatty() else 2
    model.fit(x_train, y_train, batch_size=64, epochs=epochs, verbose=verbose)


def train_teacher(data, epochs):
    teacher = make_network(32, "teacher")
    trainer = keras_adaad.PGDAT(teacher, make_attack())
    trainer.compile(make_optimizer(epochs, data), metrics=["accuracy"])
    fit(trainer, data, epochs)
    return teacher


def train_plainly(teacher, data, epochs):
    student = make_network(8, "plain_student")
    student.compile(
        make_optimizer(epochs, data),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    fit(student, data, epochs)
    return student


def distill_plainly(teacher, data, epochs):
    student = make_network(8, "distilled_student")
    distiller = keras.distillation.Distiller(
        teacher,
        student,
        distillation_losses=keras.distillation.LogitsDistillation(
            loss=keras.losses.KLDivergence()
        ),
        student_loss_weight=0.1,
    )
    distiller.compile(
        make_optimizer(epochs, data),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    fit(distiller, data, epochs)
    return student


def distill_with_adaad(teacher, data, epochs):
    student = make_network(8, "adaad_student")
    distiller = keras_adaad.AdaAD(teacher, student, make_attack())
    distiller.compile(make_optimizer(epochs, data), metrics=["accuracy"])
    fit(distiller, data, epochs)
    return student


"""
## The table

Accuracy on the held-out digits, within `EPSILON`: clean, after one FGSM step,
and after PGD-20 on the images that FGSM did not fool.
"""


def evaluate(network, x_test, y_test):
    return keras_adaad.evaluate_robustness(
        network,
        x_test,
        y_test,
        ["fgsm", "pgd-20-sat"],
        EPSILON,
        curve=np.linspace(0.0, 2 * EPSILON, 9),
        reliability_checks=False,
        verbose=0,
    )


def print_accuracy(name, network, data):
    _, x_test, _, y_test = data
    report = evaluate(network, x_test, y_test)
    print(
        f"{name:8} clean {100 * report.clean_accuracy:5.1f} %, "
        f"PGD-20 {100 * report.accuracy('pgd-20-sat'):5.1f} %"
    )


def print_table(networks, reports, seconds):
    num_images = len(reports["student, AdaAD"].labels)
    print(f"\nAccuracy on {num_images} test images, epsilon {EPSILON}, %:")
    print(f"{'':22}{'clean':>8}{'FGSM':>8}{'PGD-20':>8}{'params':>9}{'s':>6}")
    for name, network in networks.items():
        row = "".join(
            f"{100 * reports[name].accuracy(attack):8.1f}"
            for attack in ("clean", "fgsm", "pgd-20-sat")
        )
        parameters = network.count_params()
        print(f"{name:22}{row}{parameters:9,}{seconds[name]:6.0f}")


"""
## The picture

Above: digits, the perturbation that PGD-20 finds against each student
(magnified), and what the student then sees. Below: accuracy as epsilon grows.
"""


def draw(students, reports, x_test, y_test, path, columns=6):
    figure = plt.figure(figsize=(11, 7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[3, 2])
    halves = top.subfigures(1, len(students))
    for half, (name, student) in zip(halves, students.items(), strict=True):
        draw_examples(half, name, student, x_test[:columns], y_test[:columns])
    axes = bottom.subplots()
    for name in students:
        curve = reports[name].curve
        accuracy = 100 * np.array(curve["accuracy"])
        axes.plot(curve["epsilons"], accuracy, marker="o", label=name)
    axes.axvline(EPSILON, color="grey", linestyle=":", label="trained epsilon")
    axes.set(
        xlabel="epsilon (PGD-20, pixels in [0, 1])",
        ylabel="robust accuracy, %",
        ylim=(0, 100),
    )
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_examples(figure, name, student, x, y):
    pgd20 = keras_adaad.attacks.PGD(epsilon=EPSILON, steps=20, seed=0)
    x_adv = pgd20(student, x, y)
    figure.suptitle(f"{name}: predictions")
    rows = {
        "clean": (x, (0, 1)),
        "perturbation": (x_adv - x, (-EPSILON, EPSILON)),
        "adversarial": (x_adv, (0, 1)),
    }
    grid = figure.subplots(len(rows), len(x))
    for axes_row, (title, (images, limits)) in zip(
        grid, rows.items(), strict=True
    ):
        axes_row[0].set_ylabel(title)
        predicted = student.predict(images, verbose=0).argmax(axis=-1)
        for i, axes in enumerate(axes_row):
            colors = "gray" if limits[0] == 0 else "RdBu"
            low, high = limits
            axes.imshow(images[i, ..., 0], colors, vmin=low, vmax=high)
            axes.set(xticks=[], yticks=[])
            if title != "perturbation":
                color = "tab:green" if predicted[i] == y[i] else "tab:red"
                axes.set_title(predicted[i], color=color, fontsize=10)


"""
## The run

The teacher comes first, and each student after it. The picture and the AdaAD
student are saved in the folder `--output`.
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="results", type=pathlib.Path)
    parser.add_argument("--epochs", default=30, type=int)
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    data = load_data()
    networks, seconds = {}, {}

    def train(name, function, *inputs):
        print(f"\n{name}, with {keras.config.backend()}:")
        start = time.time()
        networks[name] = function(*inputs, data, arguments.epochs)
        seconds[name] = time.time() - start

    train("robust teacher", train_teacher)
    teacher = networks["robust teacher"]
    train("student, plain", train_plainly, teacher)
    train("student, distilled", distill_plainly, teacher)
    train("student, AdaAD", distill_with_adaad, teacher)

    _, x_test, _, y_test = data
    reports = {
        name: evaluate(network, x_test, y_test)
        for name, network in networks.items()
    }
    print_table(networks, reports, seconds)
    arguments.output.mkdir(parents=True, exist_ok=True)
    picture = arguments.output / "quickstart.png"
    students = {
        name: networks[name] for name in ("student, plain", "student, AdaAD")
    }
    draw(students, reports, x_test, y_test, picture)
    networks["student, AdaAD"].save(arguments.output / "student.keras")
    print(f"\nWrote {picture} and {arguments.output / 'student.keras'}")


if __name__ == "__main__":
    main()
