"""
Title: A robust student on a device
Description: Export a student, and attack the file that the device will run.
Accelerator: None

## Introduction

A student is small so that it fits a device. There it is no longer a Keras model
but a file on a runtime, often in int8. Do the measurements of the model hold
for the file? This example trains a robust student on real handwritten digits,
and writes it as SavedModel, ONNX and LiteRT, in float32 and in int8. It loads
each file with its own runtime, and measures size, latency, accuracy, and
accuracy under attack.

    pip install -e ".[edge,examples]"
    python examples/export_to_edge.py [--student FILE] [--output FOLDER]

Set `KERAS_BACKEND` to "tensorflow", "jax" or "torch"; the code is the same. The
data and the networks are those of `quickstart.py`, beside this file. To use the
student that it wrote, pass `--student results/student.keras`.
"""

import argparse
import pathlib
import time

import keras
import numpy as np
import quickstart

import keras_adaad
from keras_adaad.evaluation import mcnemar
from keras_adaad.evaluation import wilson_interval

FILES = (
    *("saved_model", "student.onnx", "student.tflite"),
    *("dense_int8.onnx", "int8.tflite"),
)

"""
## The student

As in the quickstart, PGD adversarial training makes a teacher, and AdaAD
distils it.
"""


def train_student(data, epochs):
    print(f"Training, with {keras.config.backend()}:")
    teacher = quickstart.train_teacher(data, epochs)
    return quickstart.distill_with_adaad(teacher, data, epochs)


"""
## The files

`export_student` writes the format that the name of the file implies, with
Keras's own exporters. There are two ways to int8:

- `keras.Model.quantize("int8")`, before the export, quantises the weights of
  `Dense` layers, and their inputs image by image. Keras 3.15 leaves
  convolutions unchanged, so little changes here. LiteRT's converter does not
  accept the result.
- With `calibration_images`, LiteRT's converter makes the whole network int8,
  including convolutions and activations. Device accelerators need this.
"""


def export(student, images, folder, names):
    files = {}
    for name in names:
        model = quantize_dense(student) if "dense_int8" in name else student
        path = keras_adaad.export.export_student(
            model,
            folder / name,
            calibration_images=images if name == "int8.tflite" else None,
        )
        files[name] = keras_adaad.export.load_exported(path, threads=1)
    return files


def quantize_dense(student):
    quantized = keras.models.clone_model(student)
    quantized.set_weights(student.get_weights())
    quantized.quantize("int8", filters=is_dense)
    return quantized


def is_dense(layer):
    return isinstance(layer, keras.layers.Dense)


"""
## Size and latency

Latency is the time in milliseconds from one image to its logits: the median of
rounds in which all files take turns, after a warm-up, on one thread if the
runtime has a setting for it. For a network of this size it is the cost of a
call, not of arithmetic.
"""


def measure_latencies(functions, image, rounds=15, calls=20):
    seconds = {name: [] for name in functions}
    for round_ in range(rounds + 1):
        for name, function in functions.items():
            begin = time.perf_counter()
            for _ in range(calls):
                function(image)
            if round_:  # The first one warms up.
                seconds[name].append((time.perf_counter() - begin) / calls)
    return {name: 1000 * np.median(taken) for name, taken in seconds.items()}


"""
## Accuracy under attack

A file has no gradient, so it is attacked in two other ways:

- with images that PGD-20 made on the float model, *transferred* to the file;
- with Square on the file itself, which needs nothing but its logits.

An image counts as robust if it survives both. That is an upper bound, as every
measured robust accuracy is, and a looser one than for a model with gradients.
"""


def evaluate(function, x, y, x_transferred, epsilon, queries):
    square = keras_adaad.attacks.Square(epsilon=epsilon, queries=queries)
    report = keras_adaad.evaluate_robustness(
        function,
        x,
        y,
        [square],
        epsilon,
        curve=False,
        reliability_checks=False,
        verbose=0,
    )
    transferred = function(x_transferred).argmax(-1) == y
    transferred &= report.clean
    return {
        "clean": report.clean,
        "PGD-20": transferred,
        "Square": report.robust,
        "both": transferred & report.robust,
    }


def accuracy(right, interval=False):
    text = f"{100 * right.mean():.1f}"
    if interval:
        low, high = wilson_interval(int(right.sum()), len(right))
        text += f" [{100 * low:.1f}, {100 * high:.1f}]"
    return text


"""
## The tables

The last column is the p-value of McNemar's test, which looks at the images that
only the file or only the float model gets right. If both were equally robust,
p would be the probability that these images split at least as unevenly.
"""


def print_sizes(folder, milliseconds, logits):
    expected = logits["student.keras"]
    scale = np.abs(expected).max()
    print(
        f"\nLogits lie within {scale:.1f}; they and their classes compared "
        f"with those of the Keras model:\n"
        f"{'':16}{'kB':>8}{'ms':>9}{'furthest apart':>16}{'same class, %':>15}"
    )
    for name, found in logits.items():
        apart = np.abs(found - expected).max()
        same = 100 * np.mean(found.argmax(-1) == expected.argmax(-1))
        size = size_of(folder / name) / 1000
        print(
            f"{name:16}{size:8.1f}{milliseconds[name]:9.3f}"
            f"{apart:16.1e}{same:15.1f}"
        )


def size_of(path):
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def print_accuracies(results, epsilon, queries):
    first = next(iter(results.values()))
    print(
        f"\nAccuracy on {len(first['clean'])} test images, epsilon {epsilon}, "
        f"% [95 %]; Square with {queries} queries:\n"
        f"{'':16}{'clean':>18}{'PGD-20':>8}{'Square':>8}{'both':>20}{'p':>7}"
    )
    for name, result in results.items():
        p_value = mcnemar(first["both"], result["both"]).p_value
        print(
            f"{name:16}{accuracy(result['clean'], True):>18}"
            f"{accuracy(result['PGD-20']):>8}{accuracy(result['Square']):>8}"
            f"{accuracy(result['both'], True):>20}"
            + (f"{p_value:7.2f}" if result is not first else "")
        )


"""
## The run

The float model is measured together with its files. The images of PGD-20 are
made on it once, and transferred to all.
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--student", type=pathlib.Path)
    parser.add_argument("--output", default="results/edge", type=pathlib.Path)
    parser.add_argument("--files", default=FILES, nargs="+", choices=FILES)
    parser.add_argument("--epochs", default=30, type=int)
    parser.add_argument("--epsilon", default=quickstart.EPSILON, type=float)
    parser.add_argument("--queries", default=1000, type=int)
    parser.add_argument("--limit", type=int, help="images to attack")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    data = x_train, x_test, _, y_test = quickstart.load_data()
    if arguments.student is None:
        student = train_student(data, arguments.epochs)
    else:
        student = keras.models.load_model(arguments.student)
    x, y = x_test[: arguments.limit], y_test[: arguments.limit]

    arguments.output.mkdir(parents=True, exist_ok=True)
    student.save(arguments.output / "student.keras")
    files = export(student, x_train[:200], arguments.output, arguments.files)
    # All are attacked in the same way, as functions from images to logits.
    functions = {"student.keras": student.predict_on_batch, **files}
    milliseconds = measure_latencies(functions, x[:1])
    logits = {name: function(x) for name, function in functions.items()}
    print_sizes(arguments.output, milliseconds, logits)

    budget = arguments.epsilon, arguments.queries
    pgd20 = keras_adaad.attacks.PGD(epsilon=arguments.epsilon, steps=20, seed=0)
    x_transferred = pgd20(student, x, y)
    results = {
        name: evaluate(function, x, y, x_transferred, *budget)
        for name, function in functions.items()
    }
    print_accuracies(results, *budget)
    print(f"\nWrote {arguments.output}")


if __name__ == "__main__":
    main()
