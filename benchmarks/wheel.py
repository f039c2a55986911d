"""The wheel in an empty environment, with the extra of one backend.

    make dist
    python -m benchmarks.wheel jax

Installs the wheel of `dist/` with one extra, in the versions of
`constraints.txt`, and there runs the README's block under "Use it" from an
empty folder. Then measures the processor time of `import keras_adaad` and of
`import keras`, in processes that alternate. Fails if the block fails, if
another framework is imported, or if the import takes 1.5 times as long as
Keras's own.

The script itself needs Python alone.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import venv

ROOT = pathlib.Path(__file__).parents[1]
BACKENDS = ("tensorflow", "jax", "torch")
PAIRS = 7
LIMIT = 1.5

# What the README assumes: two networks, and images on which one is right.
STAND_INS = """
import numpy as np

teacher, student = (
    keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(2.0, -1.0),
            keras.layers.Conv2D(4, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    for _ in range(2)
)
x_train = np.random.default_rng(0).uniform(size=(16, 8, 8, 1))
y_train = teacher.predict(x_train).argmax(-1)
x_val, y_val = x_test, y_test = x_train, y_train

"""

CHECKS = """
import sys

assert keras.backend.backend() == "{backend}"
assert keras_adaad.__file__.startswith(sys.prefix), keras_adaad.__file__
assert keras_adaad.zoo.list_models(), "no data files"
others = {{"tensorflow", "jax", "torch"}} - {{"{backend}"}}
assert not others & set(sys.modules), others & set(sys.modules)
"""

# Processor time, for which it matters little what else the machine does.
TIMED_IMPORT = """
import time

start = time.process_time()
import {module}
print(time.process_time() - start)
"""


def install(folder, backend):
    """Returns the Python of a new environment with the wheel in it."""
    (wheel,) = (ROOT / "dist").glob("*.whl")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [
            *(python, "-I", "-m", "pip", "install", "--quiet"),
            *("-c", ROOT / "constraints.txt", f"{wheel}[{backend}]"),
        ],
        check=True,
    )
    return python


def program(backend):
    """Returns the README's block for a backend, with the stand-ins."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^## Use it\n+```python\n(.*?)^```", readme, re.M | re.S)
    comment = "# Two networks that return logits"
    imports, rest = block[1].split(comment)
    imports = imports.replace('= "jax"', f'= "{backend}"')
    return imports + STAND_INS + comment + rest + CHECKS.format(backend=backend)


def import_seconds(python, backend, module):
    result = subprocess.run(
        [python, "-I", "-c", TIMED_IMPORT.format(module=module)],
        env={**os.environ, "KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(result.stdout)


def measure(python, backend):
    """Returns the medians for `keras` and `keras_adaad`, in seconds."""
    modules = ("keras", "keras_adaad")
    pairs = [
        [import_seconds(python, backend, module) for module in modules]
        # The first pair reads the files from the disk.
        for _ in range(1 + PAIRS)
    ][1:]
    return [statistics.median(times) for times in zip(*pairs, strict=True)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("backend", choices=BACKENDS)
    backend = parser.parse_args().backend
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        python = install(folder / "environment", backend)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        script = folder / "use_it.py"
        script.write_text(program(backend), encoding="utf-8")
        subprocess.run([python, "-I", script], cwd=elsewhere, check=True)
        keras, ours = measure(python, backend)
    print(
        f"{backend}: import keras {keras:.2f} s, keras_adaad {ours:.2f} s, "
        f"{ours / keras:.2f} times as long"
    )
    if ours >= LIMIT * keras:
        raise SystemExit(f"It must be less than {LIMIT} times as long.")


if __name__ == "__main__":
    main()
