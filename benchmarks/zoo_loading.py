"""Time and peak memory of loading a robust teacher, on each backend.

    python -m benchmarks.zoo_loading [--depth 34] [--width 20]

Writes a PyTorch checkpoint of a wide ResNet with random weights, WRN-34-20
(738 MB) by default, and loads it with `zoo.load_checkpoint` in a new process
for each backend. Peak memory is that of the process, minus what it held before
loading. Pages of the file that were read count.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

BACKENDS = ("tensorflow", "jax", "torch")


def write_checkpoint(path, depth, width):
    import torch

    from tests.oracles import networks as published

    torch.manual_seed(0)
    net = published.wide_resnet(depth, width)
    torch.save(net.state_dict(), path)


def load(path):
    import psutil

    import keras_adaad

    # A framework's allocations for its first model are not due to loading.
    keras_adaad.models.WideResNet(10, 1).predict(_images(), verbose=0)
    before = psutil.Process().memory_info().rss
    _reset_peak()
    start = time.perf_counter()
    model = keras_adaad.zoo.load_checkpoint(path)
    seconds = time.perf_counter() - start
    size = os.path.getsize(path)
    peak = _peak() - before
    print(
        f"{seconds:6.1f} s, peak {peak / 1e6:6,.0f} MB = {peak / size:.2f} "
        f"times the file ({size / 1e6:,.0f} MB), "
        f"{model.count_params():,} parameters",
        flush=True,
    )


def _images():
    import numpy as np

    return np.zeros((1, 32, 32, 3), "float32")


def _reset_peak():
    # On Linux, this restarts the measurement of the peak.
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def _peak():
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = (s for s in status.splitlines() if s.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depth", type=int, default=34)
    parser.add_argument("--width", type=int, default=20)
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        return load(arguments.load)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "teacher.pt")
        write_checkpoint(path, arguments.depth, arguments.width)
        for backend in arguments.backends:
            print(f"{backend:12}", end="", flush=True)
            subprocess.run(
                [
                    *(sys.executable, "-m", "benchmarks.zoo_loading"),
                    *("--load", str(path)),
                ],
                env={**os.environ, "KERAS_BACKEND": backend},
                check=True,
            )


if __name__ == "__main__":
    main()
