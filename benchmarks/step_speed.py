"""Images per second of AdaAD training, against plain PyTorch in the same run.

    python -m benchmarks.step_speed [--networks small resnet18] [--rounds 5]

One process per backend and one for the reference stay alive; they are timed in
turn, one at a time, round after round, so that a slow minute of the machine
hits all of them. Prints the medians and the ratios to the reference, and
writes them to `results/step_speed.json`.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")
# Widths of teacher and student, batch size, steps per timing.
NETWORKS = {
    "small": dict(teacher=(32, 64, 64), student=(16, 32, 32), batch=128, n=4),
    "resnet18": dict(batch=32, n=1),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jit-compile", action="store_true")
    parser.add_argument("--output", default="results/step_speed.json")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(*arguments.worker, arguments.jit_compile)

    results = {"machine": machine(), "rounds": arguments.rounds}
    for network in arguments.networks:
        results[network] = measure(network, arguments)
        print_table(network, results[network])
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Saved {output}")


def measure(network, arguments):
    """Times every engine in turn and returns medians and ratios."""
    engines = ["reference", *arguments.backends]
    workers, speeds = {}, {engine: [] for engine in engines}
    try:
        for engine in engines:
            # One after the other: compilation must not run side by side.
            workers[engine] = Worker(network, engine, arguments.jit_compile)
            print(
                f"{network}: {engine} ready after "
                f"{workers[engine].ask('warm up'):.0f} s",
                flush=True,
            )
        for _ in range(arguments.rounds):
            for engine in engines:
                speeds[engine].append(workers[engine].ask("time"))
    finally:
        for worker in workers.values():
            worker.stop()
    reference = speeds["reference"]
    return {
        engine: {
            "images_per_second": statistics.median(speeds[engine]),
            "ratio": statistics.median(
                ours / theirs
                for ours, theirs in zip(speeds[engine], reference, strict=True)
            ),
            "rounds": speeds[engine],
        }
        for engine in engines
    }


def print_table(network, result):
    print(f"\n{network:12} {'images/s':>10} {'to PyTorch':>12}")
    for engine, row in result.items():
        print(
            f"{engine:12} {row['images_per_second']:10.1f} {row['ratio']:12.2f}"
        )
    print(flush=True)


def machine():
    return {"cores": os.cpu_count(), "python": platform.python_version()}


class Worker:
    """A process that holds one engine and answers requests, one at a time."""

    def __init__(self, network, engine, jit_compile):
        command = [sys.executable, "-m", "benchmarks.step_speed"]
        command += ["--worker", network, engine]
        command += ["--jit-compile"] * jit_compile
        backend = "torch" if engine == "reference" else engine
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
        )

    def ask(self, request):
        print(request, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def work(network, engine, jit_compile):
    """Answers requests on standard input with numbers on standard output."""
    spec = NETWORKS[network]
    begin = time.perf_counter()
    make = reference_step if engine == "reference" else library_step
    run = make(network, spec, jit_compile)
    run(2)
    for request in sys.stdin:
        if request.strip() == "warm up":
            print(time.perf_counter() - begin, flush=True)
            continue
        start = time.perf_counter()
        run(spec["n"])
        seconds = time.perf_counter() - start
        print(spec["n"] * spec["batch"] / seconds, flush=True)


def images(spec, shape):
    x = np.random.default_rng(0).uniform(size=(spec["batch"], *shape))
    return x.astype("float32")


def reference_step(network, spec, jit_compile):
    import torch

    from benchmarks import reference

    if network == "small":
        teacher = reference.ConvNet(spec["teacher"])
        student = reference.ConvNet(spec["student"])
        x = images(spec, (1, 28, 28))
    else:
        teacher, student = reference.ResNet(), reference.ResNet()
        x = images(spec, (3, 32, 32))
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9)
    x = torch.tensor(x)

    def run(steps):
        for _ in range(steps):
            noise = 0.001 * torch.randn_like(x)
            reference.adaad_step(teacher, student, optimizer, x, noise)

    return run


def library_step(network, spec, jit_compile):
    import keras

    import keras_adaad
    from benchmarks import networks

    if network == "small":
        teacher = networks.conv_net(spec["teacher"])
        student = networks.conv_net(spec["student"])
    else:
        teacher, student = networks.resnet(), networks.resnet()
    distiller = keras_adaad.AdaAD(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        metrics=["accuracy"],
        jit_compile=jit_compile or "auto",
    )
    x = images(spec, student.input_shape[1:])
    y = np.zeros(len(x), "int32")

    def run(steps):
        x_all, y_all = np.concatenate([x] * steps), np.concatenate([y] * steps)
        distiller.fit(x_all, y_all, batch_size=len(x), verbose=0)

    return run


if __name__ == "__main__":
    main()
