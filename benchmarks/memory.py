"""Memory of AdaAD training: its peak against plain PyTorch's, and its growth.

    python -m benchmarks.memory [--networks small wrn-28-4] [--steps 2000]

Each engine and network has a new process. Peak memory is that of the process
(on a GPU, of its allocator) during training steps, minus what it held before
the networks were built. So weights, optimizer and computations count, but the
framework does not. The first step, with compilation, is shown separately.
Growth is measured during one training of small networks, with 2 attack steps.
Writes `results/memory.json`.
"""

import argparse
import gc
import itertools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from benchmarks import step_speed

EPOCH = 200
TINY = dict(teacher=(16, 24), student=(8, 12), batch=32, attack_steps=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="*", default=["small", "wrn-28-4"])
    parser.add_argument("--backends", nargs="+", default=step_speed.BACKENDS)
    parser.add_argument("--steps", type=int, default=2000, help="0: no growth")
    parser.add_argument("--output", default="results/memory.json")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, engine = arguments.worker
        if what == "growth":
            result = growth(engine, arguments.steps)
        else:
            result = peak(what, engine)
        return print(json.dumps(result))

    engines = ["reference", *arguments.backends]
    results = {"machine": step_speed.machine()}
    for network in arguments.networks:
        results[network] = rows = {}
        for engine in engines:
            rows[engine] = row = ask(network, engine, arguments)
            row["ratio"] = row["peak MB"] / rows["reference"]["peak MB"]
            print(f"{network}, {engine}: {row['peak MB']:.0f} MB", flush=True)
    if arguments.steps:
        results["growth"] = rows = {}
        for engine in engines:
            rows[engine] = levels = ask("growth", engine, arguments)
            print(f"growth, {engine}: {levels} MB", flush=True)
    print(f"\n{report(results)}\n")
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Saved {output}")


def report(results):
    """Returns the tables of peaks and of growth."""
    lines = []
    for network in (n for n in step_speed.NETWORKS if n in results):
        lines += [
            f"| {network} | peak MB | to PyTorch | first step, MB |",
            "| --- | --- | --- | --- |",
        ]
        for engine, row in results[network].items():
            lines.append(
                f"| {engine} | {row['peak MB']:.0f} | {row['ratio']:.2f} | "
                f"{row['first step MB']:.0f} |"
            )
        lines.append("")
    if "growth" in results:
        steps = [
            EPOCH * n for n in range(1, 1 + len(results["growth"]["reference"]))
        ]
        shown = sorted({0, len(steps) // 2 - 1, len(steps) - 1})
        lines += [
            "| MB after | "
            + " | ".join(f"{steps[n]} steps" for n in shown)
            + " |",
            "| --- |" + " --- |" * len(shown),
        ]
        for engine, levels in results["growth"].items():
            values = " | ".join(f"{levels[n]:.1f}" for n in shown)
            lines.append(f"| {engine} | {values} |")
    return "\n".join(lines).strip()


def ask(what, engine, arguments):
    """Returns the measurement of a new process."""
    backend = "torch" if engine == "reference" else engine
    command = [sys.executable, "-m", "benchmarks.memory"]
    command += ["--worker", what, engine, "--steps", str(arguments.steps)]
    answer = subprocess.run(
        command,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def peak(network, engine):
    """Returns the peak of the first step, and of the steps after it."""
    make = (
        step_speed.reference_step
        if engine == "reference"
        else step_speed.library_step
    )
    meter = Meter(engine)
    # A framework's allocations for its first steps are not the networks'.
    tiny_training(engine)(2)
    before = meter.now()
    batch = step_speed.NETWORKS[network]["batch"]
    run = make(network, batch, precision="float32", jit_compile=False)
    meter.reset()
    run(1)
    first = meter.peak() - before
    run(1)
    meter.reset()
    run(2)
    return {"first step MB": first, "peak MB": meter.peak() - before}


def growth(engine, steps):
    """Returns the memory after each `EPOCH` steps of one training."""
    meter, levels = Meter(engine), []

    def after_epoch(*_):
        gc.collect()
        levels.append(meter.now())

    tiny_training(engine)(EPOCH, steps // EPOCH, after_epoch)
    return levels


def tiny_training(engine):
    """Returns a function that trains small networks on small images."""
    x = np.random.default_rng(0).uniform(size=(TINY["batch"], 8, 8, 1))
    x = x.astype("float32")
    if engine == "reference":
        return tiny_reference(x.transpose(0, 3, 1, 2))
    import keras

    import keras_adaad
    from benchmarks import networks

    distiller = keras_adaad.AdaAD(
        networks.conv_net(TINY["teacher"], x.shape[1:]),
        networks.conv_net(TINY["student"], x.shape[1:]),
        keras_adaad.attacks.PGD(epsilon=0.1, steps=TINY["attack_steps"]),
    )
    distiller.compile(
        keras.optimizers.SGD(0.01, momentum=0.9), metrics=["accuracy"]
    )
    y = np.zeros(len(x), "int32")

    def train(steps, epochs=1, after_epoch=None):
        distiller.fit(
            itertools.repeat((x, y)),
            steps_per_epoch=steps,
            epochs=epochs,
            callbacks=[
                keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)
            ],
            shuffle=False,
            verbose=0,
        )

    return train


def tiny_reference(x):
    import torch

    from benchmarks import reference

    teacher = reference.ConvNet(TINY["teacher"])
    student = reference.ConvNet(TINY["student"])
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9)
    x = torch.tensor(x)

    def train(steps, epochs=1, after_epoch=None):
        for _ in range(epochs):
            for _ in range(steps):
                noise = 0.001 * torch.randn_like(x)
                reference.adaad_step(teacher, student, optimizer, x, noise)
            if after_epoch is not None:
                after_epoch()

    return train


class Meter:
    """Measures the current and the peak memory of this process, in MB."""

    def __init__(self, engine):
        self.engine = "torch" if engine == "reference" else engine

    def now(self):
        return self._on_device("now") or status("VmRSS")

    def peak(self):
        return self._on_device("peak") or status("VmHWM")

    def reset(self):
        """Restarts the measurement of the peak, if the system can."""
        # Linux.
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        if self._gpu():
            self._gpu()["reset"]()

    def _on_device(self, what):
        return self._gpu()[what]() / 1e6 if self._gpu() else None

    def _gpu(self):
        if self.engine == "torch":
            import torch

            if torch.cuda.is_available():
                return {
                    "now": torch.cuda.memory_allocated,
                    "peak": torch.cuda.max_memory_allocated,
                    "reset": torch.cuda.reset_peak_memory_stats,
                }
        elif self.engine == "jax":
            import jax

            (device, *_) = jax.local_devices()
            if device.platform == "gpu":
                # JAX cannot reset its peak, so the first step's counts.
                return {
                    "now": lambda: device.memory_stats()["bytes_in_use"],
                    "peak": lambda: device.memory_stats()["peak_bytes_in_use"],
                    "reset": lambda: None,
                }
        else:
            import tensorflow as tf

            if tf.config.list_physical_devices("GPU"):
                memory = tf.config.experimental

                def info(what):
                    return lambda: memory.get_memory_info("GPU:0")[what]

                return {
                    "now": info("current"),
                    "peak": info("peak"),
                    "reset": lambda: memory.reset_memory_stats("GPU:0"),
                }
        return None


def status(name):
    """Returns a value of this process's memory on Linux, in MB."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = (s for s in status.splitlines() if s.startswith(name))
    return 1024e-6 * int(line.split()[1])


if __name__ == "__main__":
    main()
