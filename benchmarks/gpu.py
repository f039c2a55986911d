"""Runs all measurements that need a GPU, in one call.

    python -m benchmarks.gpu [--minutes 14] [--data cifar10.npz]

The steps are speeds and memory of a WideResNet-34-10 teacher, the tests that a
GPU may fail, and the study of CIFAR-10 with networks of the papers' size. Each
step has a time limit, and stops when this or the limit of the call is reached.

The folder `--output` gets `gpu.json`, the logs and the results. The same call
skips completed steps, and resumes the study after its last epoch. At the end it
prints the remaining steps. `--tiny` runs small parts on any machine, to check
that everything works.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

PYTHON = [sys.executable, "-u"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
GPU_TESTS = (
    "tests/backend/test_backend.py",
    "tests/test_precision.py",
    "tests/test_training.py",
    "tests/models/test_parity.py",
)


@dataclasses.dataclass(frozen=True)
class Step:
    """One command.

    Args:
        name: Its name, and that of its log.
        command: List of strings.
        minutes: Time limit.
        backend: Value of `KERAS_BACKEND`.
    """

    name: str
    command: list
    minutes: float
    backend: str = "torch"


def steps(output, data, tiny):
    """Returns the steps in their order."""
    speed = [*PYTHON, "-m", "benchmarks.step_speed"]
    speed += ["--networks", "small" if tiny else "wrn-34-10"]
    speed += ["--rounds", "1" if tiny else "3"]
    backends, precisions = ("jax", "torch"), ("float32", "bfloat16")
    if tiny:
        backends, precisions = ("torch",), ("float32",)
    speed += ["--precisions", *precisions]
    study = [*PYTHON, "-m", "benchmarks.study", "cifar10", "--budget"]
    study += ["tiny" if tiny else "gpu", "--output", str(output)]
    study += ["--data", str(data)] if data else []
    tests = [*PYTHON, "-m", "pytest", "-q"]
    tests += ["-k", "test_repeat"] if tiny else []
    tests += GPU_TESTS[:1] if tiny else GPU_TESTS
    processes = [*TORCHRUN, "--nproc-per-node", "1", "examples/torch_ddp.py"]
    return [
        Step(
            "speed",
            [
                *speed,
                "--backends",
                *backends,
                "--output",
                f"{output}/speed.json",
            ],
            4,
        ),
        Step(
            "compiled speed",
            [
                *(*speed, "--backends", "torch", "--jit-compile"),
                *("--output", f"{output}/compiled_speed.json"),
            ],
            3,
        ),
        *(Step(f"tests, {name}", tests, 2, name) for name in backends),
        Step("nccl", [*processes, "--epochs", "1"], 2),
        # JAX is the fastest on a GPU, by the speeds above.
        Step("teacher", [*study, "--methods", "teacher"], 25, "jax"),
        Step(
            "students",
            [*study, "--regime", "A", "--methods", "PGD-AT", "AdaAD"],
            60,
            "jax",
        ),
    ]


def run(step, output, seconds):
    """Runs a step, and returns its outcome."""
    log = output / f"{step.name.replace(', ', '-').replace(' ', '-')}.log"
    begin = time.monotonic()
    with log.open("a") as file:
        process = subprocess.Popen(
            step.command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "KERAS_BACKEND": step.backend},
            start_new_session=True,
        )
        try:
            code = process.wait(min(60 * step.minutes, seconds))
        except subprocess.TimeoutExpired:
            code = "out of time"
            # Including the processes that it has started.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return {
        "exit code": code,
        "done": code == 0,
        "seconds": round(time.monotonic() - begin, 1),
        "command": step.command[1:],
        "log": log.read_text().splitlines()[-30:],
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument(
        "--data", help=".npz file; Keras downloads if not given"
    )
    parser.add_argument("--output", type=pathlib.Path, default="results/gpu")
    parser.add_argument("--steps", nargs="+", help="names; all if not given")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    path = output / "gpu.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    left = [
        step
        for step in steps(output, arguments.data, arguments.tiny)
        if not found.get(step.name, {}).get("done")
        and (not arguments.steps or step.name in arguments.steps)
    ]
    for step in list(left):
        seconds = end - time.monotonic()
        if seconds < 1:
            break
        print(f"{step.name} ...", flush=True)
        found[step.name] = run(step, output, seconds)
        path.write_text(json.dumps(found, indent=2) + "\n")
        code = found[step.name]["exit code"]
        print(f"{step.name}: {code}, {found[step.name]['seconds']} s")
        if found[step.name]["done"]:
            left.remove(step)
    names = ", ".join(step.name for step in left)
    print(f"Left: {names or 'nothing'}. See {path}")


if __name__ == "__main__":
    main()
