"""What each method makes of one small student.

python -m benchmarks.study cifar10 --regime A --methods PGD-AT --seeds 0
"""

import argparse
import os
import pathlib

STUDIES = ("cifar10",)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--budget", default="small")
    parser.add_argument("--regime", default="")
    parser.add_argument("--methods", nargs="+", help="all if not given")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--backend", help="tensorflow, jax or torch")
    parser.add_argument("--data", help="the images; Keras downloads if not")
    parser.add_argument("--output", type=pathlib.Path, default="results")
    arguments = parser.parse_args()
    if arguments.backend:
        os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from benchmarks.study.cifar10 import STUDY
    from benchmarks.study.run import run

    budget = STUDY.budgets[arguments.budget]
    data = STUDY.load_data(budget, arguments.data)
    folder = arguments.output / STUDY.name / arguments.budget
    folder.mkdir(parents=True, exist_ok=True)
    run(STUDY, budget, STUDY.arm("teacher"), 0, data, folder)


if __name__ == "__main__":
    main()
