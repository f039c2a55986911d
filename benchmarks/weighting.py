"""Does `EntropyWeighting` repair a teacher that makes weak students?

    python -m benchmarks.weighting [--teacher NAME] [--seeds 0 1 2]
    python -m benchmarks.weighting --show

AdaAD, RSLAD and ARD train the student with one of the teachers of
`benchmarks.teachers`, with and without the weights, and AutoAttack attacks the
students. The teacher is the one whose students are the least robust, unless
`--teacher` names another. Budgets, runs and folders are those of
`benchmarks.teachers`, which runs first. The same command resumes.
"""

import dataclasses
import json

import numpy as np

from benchmarks import teachers
from benchmarks.study import cifar10
from benchmarks.study import tables
from benchmarks.study.results import load

REGIME = "weighting"
METHODS = ("AdaAD", "RSLAD", "ARD")
WEIGHTED = "{}, weighted"


def study_of(name):
    """Returns the study of the students of the teacher with this name."""
    (source,) = (arm for arm in teachers.TEACHERS if arm.name == name)
    students = [
        dataclasses.replace(
            cifar10.arm(REGIME, title, method, options=options),
            teacher=(source.name, source.regime),
        )
        for method in METHODS
        for title, options in (
            (method, {}),
            (WEIGHTED.format(method), {"entropy_weighting": True}),
        )
    ]
    arms = (*teachers.TEACHERS, *students)
    return dataclasses.replace(teachers.STUDY, arms=arms)


def weakest(rows):
    """Returns the name of the teacher whose students are the least robust."""
    return min(rows, key=lambda row: np.mean(row["students"]))["name"]


def main():
    parser = teachers.make_parser("weighting", __doc__, seeds=[0, 1, 2])
    parser.add_argument(
        "--teacher", choices=[arm.name for arm in teachers.TEACHERS]
    )
    arguments, folder = teachers.parsed(parser)
    name = arguments.teacher
    if name is None:
        name = weakest(
            json.loads((folder / "teachers.json").read_text())["rows"]
        )
    study = study_of(name)
    if not arguments.show:
        measure(
            study, arguments.budget, arguments.seeds, arguments.data, folder
        )
    print(f"The teacher: {name}.\n\n{table(study, folder)}")


def measure(study, budget_name, seeds, data_path, folder):
    """Does what is left of the runs."""
    from benchmarks.study import run

    budget = study.budgets[budget_name]
    data = study.load_data(budget, data_path)
    for seed in seeds:
        for arm in study.arms:
            if arm.regime == REGIME:
                run.run(study, budget, arm, seed, data, folder)


def table(study, folder):
    """Returns the accuracies, and what the weights change, in Markdown."""
    runs = load(study, folder, REGIME)
    students = {
        arm.name: runs[arm.name]
        for arm in study.arms
        if arm.regime == REGIME and arm.name in runs
    }
    lines = [
        ("weighted minus plain", "clean", "p", "AutoAttack", "p", "seeds"),
        ("---",) * 6,
    ]
    for method in METHODS:
        ours, theirs = (
            students.get(name, {}) for name in (WEIGHTED.format(method), method)
        )
        lines += tables.compared(study, method, ours, theirs)
    return f"{tables.accuracies(study, students)}\n\n{tables.markdown(lines)}"


if __name__ == "__main__":
    main()
