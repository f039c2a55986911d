"""Which defects `make check` catches: seeds twenty, one at a time.

    python -m benchmarks.mutations [--backend torch] [--output FILE]

Each defect replaces one piece of code in a copy of the repository, and the
tests of `tests/check.txt` run until one fails. Results are kept in the output
file, so a killed run goes on.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]


class Mutation(NamedTuple):
    """A piece of code of a file in `keras_adaad/`, and what replaces it."""

    name: str
    file: str
    code: str
    replacement: str


MUTATIONS = [
    Mutation(
        "AdaAD searches with the divergence the wrong way round",
        "methods/objectives.py",
        "teacher(x_adv), student(x_adv)",
        "student(x_adv), teacher(x_adv)",
    ),
    Mutation(
        "AdaAD multiplies by the temperature, not by its square",
        "methods/adaad.py",
        "loss *= self.temperature**2",
        "loss *= self.temperature",
    ),
    Mutation(
        "RSLAD exchanges its weights",
        "methods/rslad.py",
        "self.alpha * adversarial + (1.0 - self.alpha) * clean",
        "self.alpha * clean + (1.0 - self.alpha) * adversarial",
    ),
    Mutation(
        "TRADES has the adversarial branch as the target",
        "methods/trades.py",
        'logits["clean"], logits["adversarial"]',
        'logits["adversarial"], logits["clean"]',
    ),
    Mutation(
        "MTARD's weight moves away from its goal",
        "methods/mtard.py",
        "rate * (self.clean_weight - goal)",
        "rate * (goal - self.clean_weight)",
    ),
    Mutation(
        "IGDM forgets the progress of the training",
        "methods/igdm.py",
        "self.weight * distiller.progress() * divergence",
        "self.weight * divergence",
    ),
    Mutation(
        "the weight perturbation moves biases, too",
        "training/weight_perturbation.py",
        "if len(variable.shape) > 1",
        "if len(variable.shape) > 0",
    ),
    Mutation(
        "the divergence is weighted by the prediction",
        "losses/kl_divergence.py",
        "p, ratio = ops.exp(log_p), log_p - log_q",
        "p, ratio = ops.exp(log_q), log_p - log_q",
    ),
    Mutation(
        "the difference of logits ratio divides by the second gap",
        "losses/margin.py",
        "gap = largest[:, 0] - largest[:, 2] + 1e-12",
        "gap = largest[:, 0] - largest[:, 1] + 1e-12",
    ),
    Mutation(
        "the L2 projection also stretches",
        "attacks/norms.py",
        "scale = ops.minimum(1.0, epsilon / (self.size(delta) + 1e-12))",
        "scale = epsilon / (self.size(delta) + 1e-12)",
    ),
    Mutation(
        "PGD leaves the input range",
        "attacks/pgd.py",
        'return self._clip(norm.project(x_adv, x, setting["epsilon"]))',
        'return norm.project(x_adv, x, setting["epsilon"])',
    ),
    Mutation(
        "APGD halves its steps one rise earlier",
        "attacks/apgd.py",
        'too_few = state["rises"] <= self.rho',
        'too_few = state["rises"] < self.rho',
    ),
    Mutation(
        "FAB does not overshoot from the clean image",
        "attacks/fab.py",
        "a * (x + self.eta * d2)",
        "a * (x + d2)",
    ),
    Mutation(
        "Square shrinks its windows one query earlier",
        "attacks/square.py",
        "sum(query > end for end in ends)",
        "sum(query >= end for end in ends)",
    ),
    Mutation(
        "AutoAttack attacks fooled images again",
        "evaluation/stages.py",
        "np.flatnonzero(clean if task.individual else robust)",
        "np.flatnonzero(clean)",
    ),
    Mutation(
        "a point outside the ball counts",
        "evaluation/stages.py",
        "fooled[left] = outcome.fooled & inside",
        "fooled[left] = outcome.fooled",
    ),
    Mutation(
        "the folded network forgets BatchNorm's shift",
        "frozen/folding.py",
        "bias = self.batch_norm.beta",
        "bias = ops.zeros_like(self.batch_norm.beta)",
    ),
    Mutation(
        "the interval is a one-sided one",
        "evaluation/statistics.py",
        "NormalDist().inv_cdf((1.0 + confidence) / 2.0)",
        "NormalDist().inv_cdf(confidence)",
    ),
    Mutation(
        "the augmentation turns images upside down",
        "data/batches.py",
        "crop[:, ::-1] if flips[place]",
        "crop[::-1] if flips[place]",
    ),
    Mutation(
        "averaged weights keep the statistics of the last batches",
        "callbacks/weight_averaging.py",
        "layer.momentum = 0.0",
        "layer.momentum = 0.9",
    ),
]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--output", default="results/mutations.json")
    options = parser.parse_args(arguments)
    output = pathlib.Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(output.read_text()) if output.exists() else {}
    caught = found.setdefault(options.backend, {})
    for mutation in MUTATIONS:
        if mutation.name not in caught:
            caught[mutation.name] = failed_test(mutation, options.backend)
            output.write_text(json.dumps(found, indent=2) + "\n")
        test = caught[mutation.name]
        print(f"{mutation.name}: {test or 'NOT CAUGHT'}", flush=True)
    number = sum(test is not None for test in caught.values())
    print(f"caught {number} of {len(MUTATIONS)} on {options.backend}")


def failed_test(mutation, backend):
    """Returns the first test that fails with the mutation, or `None`."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for name in tracked_files():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        mutate(copy / "keras_adaad" / mutation.file, mutation)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no"]
        run = subprocess.run(
            [*command, "-p", "no:cacheprovider", "@tests/check.txt"],
            cwd=copy,
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "PYTHONPATH": str(copy),
            },
            capture_output=True,
            text=True,
        )
    if run.returncode == 0:
        return None
    failures = [
        # The name of a case may have spaces.
        line.removeprefix("FAILED ").split(" - ")[0]
        for line in run.stdout.splitlines()
        if line.startswith("FAILED")
    ]
    if not failures:
        raise RuntimeError(f"No test ran:\n{run.stdout}\n{run.stderr}")
    return failures[0]


def tracked_files():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, check=True
    )
    names = listed.stdout.decode().splitlines()
    return [name for name in names if (ROOT / name).exists()]


def mutate(path, mutation):
    content = path.read_text()
    if content.count(mutation.code) != 1:
        raise ValueError(
            f"{mutation.file} must have the code of the mutation once. "
            f"Received: {content.count(mutation.code)} times {mutation.code!r}"
        )
    path.write_text(content.replace(mutation.code, mutation.replacement))


if __name__ == "__main__":
    main()
