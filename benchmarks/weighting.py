"""Does `EntropyWeighting` repair a teacher that makes weak students?

    python -m benchmarks.weighting [--teacher NAME] [--seeds 1 2 3]
    python -m benchmarks.weighting --show

AdaAD, RSLAD and ARD train the student with one of the teachers of
`benchmarks.teachers`, with and without the weights, and AutoAttack attacks the
students. The teacher is the one whose students are the least robust, unless
`--teacher` names another. The seeds are others than those of these students:
the accuracy of a student that was chosen for it is too low.

The weights also make the loss several times larger. So in a third run of AdaAD
all samples of a batch have the mean of the weights.

Budgets, runs and folders are those of `benchmarks.teachers`, which runs first.
The same command resumes.
"""

import dataclasses
import json

import numpy as np

from benchmarks import teachers
from benchmarks.study import cifar10

METHODS = ("AdaAD", "RSLAD", "ARD")
WEIGHTED = "{}, weighted"
MEAN = "AdaAD, mean weight"


def regime_of(name):
    """Returns the regime of a teacher's students, which names their files."""
    return f"weighting of {name}"


def study_of(name):
    """Returns the study of the students of the teacher with this name."""
    (source,) = (arm for arm in teachers.TEACHERS if arm.name == name)
    runs = [(method, method, {}) for method in METHODS]
    runs += [
        (WEIGHTED.format(method), method, {"sample_weighting": "entropy"})
        for method in METHODS
    ]
    runs.append((MEAN, "AdaAD", {"sample_weighting": "mean entropy"}))
    students = [
        dataclasses.replace(
            cifar10.arm(regime_of(name), title, method, options=options),
            teacher=(source.name, source.regime),
        )
        for title, method, options in runs
    ]
    arms = (*teachers.TEACHERS, *students)
    return dataclasses.replace(teachers.STUDY, arms=arms)


def weakest(rows):
    """Returns the name of the teacher whose students are the least robust."""
    return min(rows, key=lambda row: np.mean(row["students"]))["name"]


def main():
    parser = teachers.make_parser("weighting", __doc__, seeds=[1, 2, 3])
    parser.add_argument(
        "--teacher", choices=[arm.name for arm in teachers.TEACHERS]
    )
    arguments, folder = teachers.parsed(parser)
    name = arguments.teacher
    if name is None:
        name = weakest(
            json.loads((folder / "teachers.json").read_text())["rows"]
        )
    if not arguments.show:
        measure(name, arguments.budget, arguments.seeds, arguments.data, folder)
    print(f"The teacher: {name}.\n\n{table(name, folder)}")


def measure(name, budget_name, seeds, data_path, folder):
    """Does what is left of the runs."""
    from benchmarks.study import run

    study = study_of(name)
    budget = study.budgets[budget_name]
    data = study.load_data(budget, data_path)
    for seed in seeds:
        for arm in study.arms:
            if arm.regime == regime_of(name):
                run.run(study, budget, arm, seed, data, folder)


def table(name, folder):
    """Returns the accuracies, and what the weights change, in Markdown."""
    # Not before `--backend` is read.
    from benchmarks.study import tables
    from benchmarks.study.results import load

    study, regime = study_of(name), regime_of(name)
    runs = load(study, folder, regime)
    students = {
        arm.name: runs[arm.name]
        for arm in study.arms
        if arm.regime == regime and arm.name in runs
    }
    pairs = [(WEIGHTED.format(method), method) for method in METHODS]
    pairs += [(MEAN, "AdaAD"), (WEIGHTED.format("AdaAD"), MEAN)]
    # What another method changes, for scale.
    pairs.append(("RSLAD", "AdaAD"))
    rows = []
    for first, second in pairs:
        rows += tables.compared(
            *(study, f"{first}, minus {second}"),
            *(students.get(name, {}) for name in (first, second)),
        )
    accuracies = tables.accuracies(study, students)
    return f"{accuracies}\n\n{tables.of_differences('', rows)}"


if __name__ == "__main__":
    main()
