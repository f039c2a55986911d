"""Does `rank_teachers` predict which teacher makes the most robust student?

    python -m benchmarks.teachers [--budget cheap] [--seeds 0 1 2]
    python -m benchmarks.teachers --show

Eight teachers on CIFAR-10 differ in width, epochs, method, epsilon and images.
`rank_teachers` measures them on 500 training images, with a warm-up of a tenth
of the student's training. Then AdaAD trains the student fully with each
teacher, and AutoAttack attacks the students. The result is the rank correlation
of each number of the ranking with the accuracy of the students, and for scale
that of the teachers' own accuracy under AutoAttack.

Networks, budgets and runs are those of `benchmarks.study`: a run's JSON is in
`results/teachers/BUDGET`, and the same command resumes. The result is
`teachers.json` there. The budget "cheap" has convolutional networks that halve
their maps at once: with one seed it takes two hours on two cores, and "small" a
day.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib

import numpy as np
from scipy import stats

from benchmarks import teacher_tables
from benchmarks.study import cifar10
from benchmarks.study.arms import Arm
from benchmarks.study.published import take_published

WARMUP = 0.1  # Of the steps of the student's training.


def teacher(name, method="PGDAT", radius=1.0, **fields):
    """Returns an arm that trains a teacher as the study's is trained."""
    given = {
        "network": "teacher",
        "images": "all",
        # 20 epochs of all images with the budget "small".
        "length": 4.5,
        "optimizer": "sgd, cosine",
        "averaging": 0.995,
        **fields,
    }
    attack = {"steps": 3, "step": 0.5 * radius, "radius": radius}
    return Arm(name, method, "teachers", attack=attack, teacher=None, **given)


TEACHERS = (
    cifar10.TEACHER,
    teacher("TRADES", "TRADES"),
    teacher("smoothed labels", "SmoothedPGDAT"),
    teacher("narrow", network="student"),
    teacher("short", length=1.125),
    teacher("half epsilon", radius=0.5),
    teacher("epsilon 1.5", radius=1.5),
    teacher("few images", images="labelled"),
)
STUDENTS = tuple(
    dataclasses.replace(
        cifar10.arm("students", f"of {arm.name}", "AdaAD"),
        teacher=(arm.name, arm.regime),
    )
    for arm in TEACHERS
)


def conv_net(*widths):
    def build():
        from benchmarks import networks

        return networks.conv_net(
            widths, input_shape=(32, 32, 3), strides=(2, 2, 2)
        )

    return build


STUDY = dataclasses.replace(
    cifar10.STUDY,
    arms=(*TEACHERS, *STUDENTS),
    keep_best=False,
    networks={
        **cifar10.STUDY.networks,
        "wide conv net": conv_net(32, 64, 128),
        "narrow conv net": conv_net(16, 32, 64),
    },
    budgets={
        **cifar10.BUDGETS,
        "cheap": dataclasses.replace(
            cifar10.BUDGETS["small"],
            epochs=12,
            teacher_epochs=12,
            networks={"teacher": "wide conv net", "student": "narrow conv net"},
        ),
        # With as many images as `rank_teachers` takes.
        "tiny": dataclasses.replace(
            cifar10.BUDGETS["tiny"],
            images=60,
            epochs=1,
            batch_size=60,
            autoattack="fgsm",
        ),
    },
)


def main():
    parser = make_parser("teachers", __doc__, seeds=[0])
    parser.add_argument(
        "--teachers",
        nargs="+",
        help="all if not given",
        choices=[arm.name for arm in TEACHERS],
    )
    arguments, folder = parsed(parser)
    if not arguments.show:
        measure(
            arguments.budget,
            arguments.teachers,
            arguments.seeds,
            arguments.data,
            folder,
        )
    result = json.loads((folder / "teachers.json").read_text())
    print(
        f"{teacher_tables.table(result)}\n\n"
        f"{teacher_tables.correlation_table(result)}\n\n"
        f"{result['images']} images, a warm-up of {result['warmup']} steps, "
        f"seeds {result['seeds']}. {result['certainty']}"
    )


def make_parser(name, description, seeds):
    """Returns the parser of a benchmark of these teachers."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--budget", default="cheap", choices=STUDY.budgets)
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--backend", help="tensorflow, jax or torch")
    parser.add_argument("--data", help="an .npz file of CIFAR-10")
    parser.add_argument("--output", type=pathlib.Path, default="results")
    parser.add_argument(
        "--show", action="store_true", help="only print the result"
    )
    return parser


def parsed(parser):
    """Returns the arguments and the folder of the runs; sets the backend."""
    arguments = parser.parse_args()
    if arguments.backend:
        os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    folder = pathlib.Path(arguments.output, "teachers", arguments.budget)
    return arguments, folder


def measure(budget_name, names, seeds, data_path, folder):
    """Does what is left of the runs, and writes `teachers.json`."""
    from benchmarks.study import run

    folder.mkdir(parents=True, exist_ok=True)
    take_published(STUDY, budget_name, folder)
    budget = STUDY.budgets[budget_name]
    data = STUDY.load_data(budget, data_path)
    pairs = [
        pair
        for pair in zip(TEACHERS, STUDENTS, strict=True)
        if names is None or pair[0].name in names
    ]
    for arm, _ in pairs:
        run.run(STUDY, budget, arm, 0, data, folder)
    ranking = rank([arm for arm, _ in pairs], budget, data, folder)
    for seed in seeds:
        for _, arm in pairs:
            run.run(STUDY, budget, arm, seed, data, folder)
    rows = []
    for row in ranking.rows():
        (pair,) = (pair for pair in pairs if pair[0].name == row["name"])
        accuracies = [robust_accuracy(folder, pair[1], seed) for seed in seeds]
        row["autoattack"] = robust_accuracy(folder, pair[0], 0)
        rows.append({**row, "students": accuracies})
    run.write_json(
        folder / "teachers.json",
        {
            "budget": budget_name,
            "seeds": seeds,
            "warmup": ranking.warmup,
            "images": ranking.num_images,
            "certainty": ranking.certainty,
            "rows": rows,
            "correlations": correlations(rows),
        },
    )


def rank(arms, budget, data, folder):
    """Returns the ranking of the teachers, for the untrained student."""
    import keras

    import keras_adaad
    from benchmarks.study import methods
    from benchmarks.study import run

    keras.utils.set_random_seed(0)
    student = run.build(STUDY, budget, "student")
    images, labels = data["labelled"]
    steps = budget.epochs * (len(images) // budget.batch_size)
    ranking = keras_adaad.rank_teachers(
        {arm.name: folder / f"{arm.file_name(0)}.keras" for arm in arms},
        student,
        (images / 255).astype("float32"),
        labels,
        methods.make_attack(
            keras_adaad.AdaAD, STUDY.epsilon, STUDENTS[0].attack
        ),
        warmup=math.ceil(WARMUP * steps),
        batch_size=budget.batch_size,
        state_path=folder / "ranking-state.json",
        verbose=2,
    )
    ranking.save(folder / "ranking.json")
    return ranking


def robust_accuracy(folder, arm, seed):
    """Returns the accuracy under AutoAttack of a run's network."""
    from keras_adaad import RobustnessReport

    path = folder / f"{arm.file_name(seed)}.json"
    reports = json.loads(path.read_text())["reports"]
    return RobustnessReport.from_dict(reports["autoattack"]).robust_accuracy


def correlations(rows):
    """Returns each predictor's rank correlation with the students' accuracy."""
    students = [np.mean(row["students"]) for row in rows]
    return {
        name: rank_correlation([row[name] for row in rows], students)
        for name in teacher_tables.PREDICTORS
    }


def rank_correlation(first, second):
    """Returns Spearman's correlation, its 95 % interval and its p-value.

    The teachers are the sample. The interval is Fisher's, with the variance of
    Bonett and Wright (2000): `None` for fewer than four teachers and for a
    perfect correlation, which has none. The p-value is the share of the orders
    with a correlation as far from zero.
    """
    ranks = [stats.rankdata(values) for values in (first, second)]
    if not all(np.ptp(values) for values in ranks):
        return {"correlation": None, "interval": None, "p_value": None}
    standard = [(r - r.mean()) / r.std() for r in ranks]
    test = stats.permutation_test(
        (standard[0],),
        lambda order, axis: np.mean(order * standard[1], axis=axis),
        permutation_type="pairings",
        n_resamples=50_000,  # More than the orders of eight teachers.
        vectorized=True,
        rng=0,
    )
    value = float(test.statistic)
    interval = None
    if len(first) > 3 and abs(value) < 0.999:
        error = math.sqrt((1 + value**2 / 2) / (len(first) - 3))
        ends = (math.atanh(value) + sign * 1.96 * error for sign in (-1, 1))
        interval = [math.tanh(end) for end in ends]
    return {
        "correlation": value,
        "interval": interval,
        "p_value": float(test.pvalue),
    }


if __name__ == "__main__":
    main()
