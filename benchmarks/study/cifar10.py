"""CIFAR-10: what a robust teacher is worth, within 8/255.

A `WideResNet` 16-2 is trained adversarially on 45,000 images; the students are
those of 10-1, with 80,000 parameters.

The regimes:

- A: 10,000 labelled images.
- B: the same labels, and 35,000 images without.
- C: all 45,000 labels.
- D: a teacher of the student's own size.
- cost: how the attack of AdaAD may be made cheaper.
"""

import numpy as np

from benchmarks.study.arms import Arm
from benchmarks.study.arms import Budget
from benchmarks.study.arms import Study

EPSILON = 8 / 255
CLASSES = 10

BUDGETS = {
    # To see that all works.
    "tiny": Budget(32, 2, 64, 1, 4, 16, 16, {"teacher": "student"}),
    "small": Budget(10_000, 40, 45_000, 20, 1_000, 500, 128),
}
TEACHER = Arm(
    name="teacher",
    method="PGDAT",
    attack={"steps": 3, "step": 0.5},
    network="teacher",
    teacher=None,
    images="all",
    optimizer="sgd, cosine",
    averaging=0.995,
)


def load_data(budget, path):
    """Returns pairs of images and labels, by what they are for.

    Args:
        budget: The `Budget`.
        path: An `.npz` file with `x_train`, `y_train`, `x_test` and `y_test`,
            or `None` for those that Keras downloads.
    """
    if path is None:
        import keras

        (x, y), (x_test, y_test) = keras.datasets.cifar10.load_data()
    else:
        with np.load(path) as file:
            x, y, x_test, y_test = (
                file[f"{name}_{part}"]
                for part in ("train", "test")
                for name in "xy"
            )
    y, y_test = y.ravel().astype("int32"), y_test.ravel().astype("int32")
    everything = slice(0, budget.teacher_images)
    labelled = stratified(y[everything], budget.images)
    return {
        "all": (x[everything], y[everything]),
        "labelled": (x[labelled], y[labelled]),
        "held out": prepared(x, y, slice(-budget.held_out, None)),
        "test": prepared(x_test, y_test, slice(0, budget.attacked)),
    }


def stratified(labels, count):
    """Returns the first `count` rows with equally many of each class.

    Where a class has too few, or `count` is no multiple of the number of
    classes, the first of the other rows make up for it.
    """
    ranks = np.empty(len(labels), int)
    for label in range(CLASSES):
        (rows,) = np.nonzero(labels == label)
        ranks[rows] = np.arange(len(rows))
    return np.sort(np.argsort(ranks, kind="stable")[:count])


def prepared(images, labels, part):
    return (images[part] / 255).astype("float32"), labels[part]


def wide_resnet(depth, width):
    def build():
        from keras_adaad.models import WideResNet

        return WideResNet(depth, width)

    return build


STUDY = Study(
    name="cifar10",
    epsilon=EPSILON,
    budgets=BUDGETS,
    arms=(TEACHER,),
    networks={"teacher": wide_resnet(16, 2), "student": wide_resnet(10, 1)},
    load_data=load_data,
    augmentation={"padding": 4, "flip": True},
    attacks={"short": ["pgd-20-sat"], "autoattack": ["autoattack"]},
    columns=("clean", "PGD-20", "AutoAttack"),
    mixed_precision=True,
    keep_best=True,
)
