"""Compares all methods on one small student.

    python -m benchmarks.study fashion_mnist [--budget small] [--seeds 0 1 2]
    python -m benchmarks.study cifar10 --regime A --methods PGD-AT --seeds 0
    python -m benchmarks.study cifar10 --methods teacher
    python -m benchmarks.study.report FOLDER

A robust teacher is trained once. Then every method trains the same student with
the same number of updates, and its own published loss and start of the attack.
Each student is evaluated with a few short attacks and the standard AutoAttack.

The result of a run is a JSON file in `results/STUDY/BUDGET`: configuration,
history of the epochs and reports. The same command resumes after the last
completed epoch or attack, and skips runs that have their JSON. At the end it
prints the tables, as the last command does for a folder of runs.

If `benchmarks/published` has the teacher, it is taken from there.
"""

import argparse
import os
import pathlib

from benchmarks.study import schedule
from benchmarks.study.studies import NAMES
from benchmarks.study.studies import get


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("study", choices=NAMES)
    parser.add_argument("--budget", default="small")
    parser.add_argument("--regime", nargs="+", help="all if not given")
    parser.add_argument("--methods", nargs="+", help="all if not given")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--backend", help="tensorflow, jax or torch")
    parser.add_argument(
        "--data",
        help="where the images are, a folder of Fashion-MNIST's files or an\n"
        ".npz file of CIFAR-10; Keras downloads them if not given",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        help="runs at a time, each on its own cores: small networks leave\n"
        "cores idle that they share",
    )
    parser.add_argument("--output", type=pathlib.Path, default="results")
    arguments = parser.parse_args()
    if arguments.backend:
        os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    schedule.run_all(
        get(arguments.study),
        arguments.budget,
        regimes=arguments.regime,
        methods=arguments.methods,
        seeds=arguments.seeds,
        data_path=arguments.data,
        output=arguments.output,
        processes=arguments.processes,
    )


if __name__ == "__main__":
    main()
