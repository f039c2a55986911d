"""Images per second of AdaAD training on one device and on two.

    python -m benchmarks.scaling [--backends tensorflow jax torch] [--rounds 3]

Each device has one core. Two devices are TensorFlow's `MirroredStrategy` over
two logical CPUs, JAX's `DataParallel` over two host devices, or two PyTorch
processes under `torchrun`. In both cases a step has 128 images, and the
networks are the small CNNs of `step_speed`. If there are GPUs, the devices are
GPUs, and the networks those of `wrn-34-10`. One and two devices are timed in
turn, round after round, from the first step of an epoch to its end. The time
that TensorFlow may wait after it (see `docs/guides/several-devices.md`) is not
due to the devices, and is excluded. Results go to `results/scaling.json`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

BACKENDS = ("tensorflow", "jax", "torch")
BATCH, STEPS = 128, 8


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="results/scaling.json")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.worker)
    results = {b: measure(b, arguments.rounds) for b in arguments.backends}
    print(report(results))
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=2) + "\n")


def measure(backend, rounds):
    """Returns the images per second of one and two devices, and their ratio."""
    speeds = {1: [], 2: []}
    for _ in range(rounds):
        for devices in speeds:
            speeds[devices].append(run(backend, devices))
    one, two = (statistics.median(speeds[devices]) for devices in (1, 2))
    ratios = [b / a for a, b in zip(speeds[1], speeds[2], strict=True)]
    return {"1": one, "2": two, "ratio": statistics.median(ratios)}


def report(results):
    """Returns the results as a table in Markdown."""
    lines = [
        "| images/s | 1 device | 2 devices | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for backend, row in results.items():
        lines.append(
            f"| {backend} | {row['1']:.1f} | {row['2']:.1f} | "
            f"{row['ratio']:.2f} |"
        )
    return "\n".join(lines)


def run(backend, devices):
    """Returns the images per second of one new process, or of two."""
    command = [sys.executable]
    if backend == "torch" and devices > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(devices)]
    command += ["-m", "benchmarks.scaling", "--worker", str(devices)]
    flags = f"--xla_force_host_platform_device_count={devices}"
    output = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "XLA_FLAGS": flags,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
    ).stdout
    return float(output.split()[-1])


def work(devices):
    """Trains in this process, and prints the images per second at rank 0."""
    rank = int(os.environ.get("LOCAL_RANK", 0))
    processes = int(os.environ.get("WORLD_SIZE", 1))
    # Set before importing a framework, which counts the cores.
    cores = sorted(os.sched_getaffinity(0))
    own = cores[rank : rank + 1] if processes > 1 else cores[:devices]
    os.sched_setaffinity(0, own)
    os.environ["OMP_NUM_THREADS"] = str(len(own))

    import keras

    import keras_adaad
    from benchmarks import step_speed

    scope, gpus = _scope(keras.config.backend(), devices)
    keras_adaad.distribution.initialize() if processes > 1 else None
    network = "wrn-34-10" if gpus else "small"
    with scope:
        teacher, student = step_speed.keras_networks(network)
        distiller = keras_adaad.AdaAD(teacher, student)
        distiller.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    x = step_speed.images(BATCH * STEPS, student.input_shape[1:])

    times = {}
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: times.update(begin=time.perf_counter()),
        on_epoch_end=lambda *_: times.update(end=time.perf_counter()),
    )

    def fit(x):
        distiller.fit(
            x, batch_size=BATCH // processes, verbose=0, callbacks=[clock]
        )

    fit(x[: 2 * BATCH])
    fit(x)
    if rank == 0:
        print(BATCH * STEPS / (times["end"] - times["begin"]))


def _scope(backend, devices):
    """Returns the scope for the model, and whether the devices are GPUs."""
    import contextlib

    scope = contextlib.nullcontext()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if devices > 1:
            if not gpus:
                (cpu,) = tf.config.list_physical_devices("CPU")
                configuration = tf.config.LogicalDeviceConfiguration()
                tf.config.set_logical_device_configuration(
                    cpu, [configuration] * devices
                )
            kind = "GPU" if gpus else "CPU"
            names = [f"{kind}:{i}" for i in range(devices)]
            scope = tf.distribute.MirroredStrategy(names).scope()
        return scope, bool(gpus)
    import keras

    if backend == "jax":
        import jax

        if devices > 1:
            names = keras.distribution.list_devices()[:devices]
            keras.distribution.set_distribution(
                keras.distribution.DataParallel(devices=names)
            )
        return scope, jax.default_backend() != "cpu"
    import torch

    return scope, torch.cuda.is_available()


if __name__ == "__main__":
    main()
