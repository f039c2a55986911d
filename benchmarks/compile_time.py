"""Seconds to compile a training step, and to run it.

    python -m benchmarks.compile_time [--teacher 34 20] [--batch 2]

AdaAD with ten attack steps, a ResNet-18 student and a WideResNet teacher, each
backend in a new process. On CPU, JAX unrolls the ten steps; on other devices it
loops, as TensorFlow always does. The compile time is the time of the first call
minus that of the second.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--teacher", nargs=2, type=int, default=[34, 20])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"])
    parser.add_argument("--output", default="results/compile_time.json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(arguments)))
        return
    results = {"teacher": "WRN-{}-{}".format(*arguments.teacher)}
    for backend in arguments.backends:
        command = [sys.executable, "-m", "benchmarks.compile_time", "--worker"]
        output = subprocess.run(
            [*command, *sys.argv[1:]],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
        ).stdout
        results[backend] = json.loads(output.splitlines()[-1])
    print(report(results))
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=2) + "\n")


def report(results):
    """Returns the results as a table in Markdown."""
    lines = [
        f"| {results['teacher']} | seconds to compile | seconds per step |",
        "| --- | --- | --- |",
    ]
    for backend in sorted(set(results) - {"teacher"}):
        compilation, step = results[backend]
        lines.append(f"| {backend} | {compilation:.0f} | {step:.1f} |")
    return "\n".join(lines)


def measure(arguments):
    """Returns the seconds of the compilation and of a step."""
    import keras_adaad
    from benchmarks import networks

    teacher = keras_adaad.models.WideResNet(*arguments.teacher)
    distiller = keras_adaad.AdaAD(teacher, networks.resnet())
    distiller.compile("sgd")
    x = np.random.default_rng(0).uniform(size=(arguments.batch, 32, 32, 3))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        distiller.fit(x.astype("float32"), verbose=0)
        seconds.append(time.perf_counter() - start)
    return seconds[0] - seconds[1], seconds[1]


if __name__ == "__main__":
    main()
