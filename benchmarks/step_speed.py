"""Images per second of AdaAD training, against the same in plain PyTorch.

    python -m benchmarks.step_speed [--networks small wrn-28-4] [--rounds 5]

On a GPU, with TF32 for float32 and networks of the paper's size:

    python -m benchmarks.step_speed --networks wrn-34-10 --backends jax torch

One process per engine stays alive. The engines are timed in turn, one at a
time, round after round, so that a slow minute of the machine affects them all.
An engine is the baseline, `reference.py` in eager PyTorch, or a Keras backend,
each in float32 and in bfloat16. In bfloat16 the baseline runs under
`torch.autocast` on channels-last images, and the library under the policy
`mixed_bfloat16`.

Ratios are to the baseline of the same precision. The share of the peak is the
number of additions and multiplications per second that the algorithm needs (see
`operations`), divided by that of a large matrix product. The work of a `fit`
call before its first step, such as the check of the networks, is timed
separately. Results go to `results/step_speed.json`.
"""

import argparse
import contextlib
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
PRECISIONS = ("float32", "bfloat16")
# Batch size and steps per timing. The student of a wide ResNet is a ResNet-18.
NETWORKS = {
    # To check that everything works.
    "tiny": {"batch": 2, "steps": 1},
    "small": {"batch": 128, "steps": 4},
    "wrn-28-4": {"batch": 32, "steps": 1},
    "wrn-34-10": {"batch": 128, "steps": 4},
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["small", "wrn-28-4"])
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jit-compile", action="store_true")
    parser.add_argument("--output", default="results/step_speed.json")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(*arguments.worker, arguments.jit_compile)

    results = {"machine": machine(), "rounds": arguments.rounds}
    for network in arguments.networks:
        results[network] = measure(network, arguments)
        print(f"\n{table(network, results[network])}\n", flush=True)
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Saved {output}")


def measure(network, arguments):
    """Times every engine in turn, and returns a row of numbers for each."""
    engines = [
        (engine, precision)
        for precision in arguments.precisions
        for engine in ("reference", *arguments.backends)
    ]
    workers, speeds, rows = {}, {engine: [] for engine in engines}, {}
    try:
        for engine in engines:
            # One after the other: compilation must not run side by side.
            worker = Worker(network, *engine, arguments.jit_compile)
            workers[engine] = worker
            seconds = worker.ask("warm up")
            rows[engine] = {"seconds to the second step": seconds}
            print(f"{network}: {engine} ready, {seconds:.0f} s", flush=True)
        peaks = {
            precision: workers["reference", precision].ask("peak")
            for precision in arguments.precisions
        }
        for _ in range(arguments.rounds):
            for engine in engines:
                speeds[engine].append(workers[engine].ask("time"))
        for engine in engines:
            rows[engine]["peak MB"] = workers[engine].ask("memory")
            rows[engine]["seconds before a step"] = workers[engine].ask(
                "before"
            )
    finally:
        for worker in workers.values():
            worker.stop()
    work_per_image = operations(network)
    for (engine, precision), row in rows.items():
        speed = speeds[engine, precision]
        reference = speeds["reference", precision]
        row["images/s"] = statistics.median(speed)
        row["ratio"] = statistics.median(
            ours / theirs for ours, theirs in zip(speed, reference, strict=True)
        )
        row["share of peak"] = (
            row["images/s"] * work_per_image / peaks[precision]
        )
        row["rounds"] = speed
    return {f"{e}, {p}": row for (e, p), row in rows.items()}


def table(network, rows):
    """Returns the rows as a table in Markdown."""
    lines = [
        f"| {network} | images/s | to PyTorch | share of peak | peak MB | "
        "s before a step |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['images/s']:.1f} | {row['ratio']:.2f} | "
            f"{100 * row['share of peak']:.0f} % | {row['peak MB']:.0f} | "
            f"{row['seconds before a step']:.2f} |"
        )
    return "\n".join(lines)


def report(results):
    """Returns the tables of all networks."""
    return "\n\n".join(
        table(name, results[name]) for name in NETWORKS if name in results
    )


def machine():
    return {"cores": os.cpu_count(), "python": platform.python_version()}


def operations(network):
    """Returns the multiplications and additions of a step for one image.

    A gradient by the input, or by the weights, counts as much as a forward
    pass. The teacher has ten forward and backward passes in the attack, and the
    target at x*. The student has ten in the attack, two more forward passes,
    and one backward pass by weights and input.
    """
    code = (
        "from benchmarks import step_speed, networks;"
        f"t, s = step_speed.keras_networks({network!r});"
        "f = networks.multiplications;"
        "print(2 * (21 * f(t) + 24 * f(s)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    ).stdout
    return float(output.split()[-1])


class Worker:
    """A process that holds one engine and answers requests, one at a time."""

    def __init__(self, network, engine, precision, jit_compile):
        command = [sys.executable, "-m", "benchmarks.step_speed"]
        command += ["--worker", network, engine, precision]
        command += ["--jit-compile"] * jit_compile
        backend = "torch" if engine == "reference" else engine
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                # Other processes, which keep their memory, wait meanwhile.
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
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


def work(network, engine, precision, jit_compile):
    """Answers requests on standard input with numbers on standard output."""
    spec = NETWORKS[network]
    begin = time.perf_counter()
    make = reference_step if engine == "reference" else library_step
    run = make(network, spec["batch"], precision, jit_compile)
    run(2)
    for request in sys.stdin:
        start = time.perf_counter()
        if request.strip() == "warm up":
            answer = start - begin
        elif request.strip() == "peak":
            answer = matrix_peak(precision)
        elif request.strip() == "memory":
            answer = peak_memory(engine)
        elif request.strip() == "before":
            answer = -run(spec["steps"]) + time.perf_counter() - start
        else:
            answer = spec["steps"] * spec["batch"] / run(spec["steps"])
        print(answer, flush=True)


def matrix_peak(precision):
    """Returns the operations per second of a large matrix product."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Smaller ones do not fill a GPU; a CPU is no faster on larger ones.
    size = 4096 if device == "cuda" else 1024
    x = torch.randn(size, size, device=device).to(getattr(torch, precision))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        float((x @ x)[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def peak_memory(engine):
    """Returns the peak memory so far, in MB, of the GPU if there is one."""
    import resource

    import torch

    if torch.cuda.is_available() and engine == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 1e6
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def images(batch, shape):
    x = np.random.default_rng(0).uniform(size=(batch, *shape))
    return x.astype("float32")


def reference_step(network, batch, precision, jit_compile):
    import torch

    from benchmarks import reference

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    if network in ("tiny", "small"):
        teacher = reference.ConvNet((32, 64, 64))
        student = reference.ConvNet((16, 32, 32))
        x = torch.tensor(images(batch, (1, 28, 28)), device=device)
    else:
        depth, width = (int(part) for part in network.split("-")[1:])
        teacher = reference.WideResNet(depth, width)
        student = reference.ResNet()
        x = torch.tensor(images(batch, (3, 32, 32)), device=device)
    autocast = contextlib.nullcontext
    layout = torch.contiguous_format
    if precision == "bfloat16":
        layout = torch.channels_last

        def autocast():
            return torch.autocast(device, torch.bfloat16)

    teacher = teacher.to(device, memory_format=layout)
    student = student.to(device, memory_format=layout)
    x = x.to(memory_format=layout)
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9)

    def run(steps):
        begin = time.perf_counter()
        for _ in range(steps):
            noise = 0.001 * torch.randn_like(x)
            with autocast():
                reference.adaad_step(teacher, student, optimizer, x, noise)
        return time.perf_counter() - begin

    return run


def keras_networks(network):
    """Returns teacher and student."""
    import keras_adaad
    from benchmarks import networks

    if network in ("tiny", "small"):
        return networks.conv_net((32, 64, 64)), networks.conv_net((16, 32, 32))
    depth, width = (int(part) for part in network.split("-")[1:])
    return keras_adaad.models.WideResNet(depth, width), networks.resnet()


def library_step(network, batch, precision, jit_compile):
    import keras

    import keras_adaad

    if keras.config.backend() == "torch":
        import torch

        torch.set_float32_matmul_precision("high")
    if precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    teacher, student = keras_networks(network)
    distiller = keras_adaad.AdaAD(teacher, student)
    distiller.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        metrics=["accuracy"],
        jit_compile=jit_compile or "auto",
    )
    x = images(batch, student.input_shape[1:])
    y = np.zeros(len(x), "int32")

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                self.begin = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds = time.perf_counter() - self.begin

    clock = Clock()

    def run(steps):
        x_all, y_all = np.concatenate([x] * steps), np.concatenate([y] * steps)
        distiller.fit(
            x_all, y_all, batch_size=len(x), callbacks=[clock], verbose=0
        )
        return clock.seconds

    return run


if __name__ == "__main__":
    main()
