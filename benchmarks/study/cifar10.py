"""CIFAR-10: the benefit of a robust teacher, with epsilon 8/255.

The teacher is a `WideResNet` 16-2, trained adversarially on 45,000 images. The
students are `WideResNet`s 10-1, with 80,000 parameters.

The regimes:

- A: 10,000 labelled images.
- B: the same labels, and 35,000 images without labels.
- C: all 45,000 labels.
- D: the teacher is the PGD-AT student of A.
- cost: cheaper attacks of AdaAD, at equal epochs and, by the speeds measured on
  two cores, at equal time.
- levers: settings that trade clean for robust accuracy. One setting is chosen
  on the held-out images, with one seed.
- wide: a student that is twice as wide.
"""

import numpy as np

from benchmarks.study.arms import Arm
from benchmarks.study.arms import Budget
from benchmarks.study.arms import Study
from benchmarks.study.image_order import in_published_order

EPSILON = 8 / 255
CLASSES = 10

BUDGETS = {
    # To check that everything works.
    "tiny": Budget(
        *(40, 2, 80, 1, 4, 20, 20),
        networks=dict.fromkeys(("teacher", "student", "wide student"), "tiny"),
        autoattack="apgd-ce",
    ),
    # For a GPU: networks of the papers' size. The teacher is trained for about
    # half an hour.
    "gpu": Budget(
        *(10_000, 40, 45_000, 15, 1_000, 500, 128),
        networks={"teacher": "PreActResNet-18", "student": "MobileNetV2"},
    ),
    "small": Budget(10_000, 20, 45_000, 20, 1_000, 500, 128),
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
IGDM = {"igdm": True}
LINEAR = {"teacher_in_attack": "linear"}
SHARPER = "AdaAD linear, teacher at half temperature"
SHARP = {**LINEAR, "teacher_temperature": 0.5}


def arm(regime, name, method=None, steps=5, radius=1.0, **fields):
    """Returns an arm whose attack takes steps of half its radius."""
    attack = {"steps": steps, "step": 0.5 * radius, "radius": radius}
    method = method or name
    without = method in ("PGDAT", "SmoothedPGDAT", "TRADES", "plain training")
    # With pseudo-labels the teacher is needed all the same.
    if without and fields.get("images") != "pseudo":
        fields["teacher"] = None
    return Arm(name, method, regime, attack=attack, **fields)


def few_labels():
    return (
        arm("A", "PGD-AT", "PGDAT"),
        arm("A", "TRADES"),
        arm("A", "RSLAD"),
        arm("A", "AdaAD"),
        arm("A", "AdaAD linear", "AdaAD", options=LINEAR),
        arm("A", "plain training"),
        arm("A", "PGD-AT, smoothed labels", "SmoothedPGDAT"),
        arm("A", "ARD"),
        arm("A", "AdaAD + IGDM", "AdaAD", options=IGDM),
        arm("A", "SAAD"),
    )


def few_labels_many_images():
    return (
        arm("B", "PGD-AT", "PGDAT", images="pseudo"),
        arm("B", "TRADES", images="pseudo"),
        arm("B", "RSLAD", images="unlabelled"),
        arm("B", "AdaAD", images="unlabelled"),
        arm(
            *("B", "AdaAD linear", "AdaAD"),
            options=LINEAR,
            images="unlabelled",
        ),
        arm("B", SHARPER, "AdaAD", options=SHARP, images="unlabelled"),
    )


def all_labels():
    return (
        arm("C", "PGD-AT", "PGDAT", images="all"),
        arm("C", "TRADES", images="all"),
        arm("C", "AdaAD", images="all"),
    )


def small_teacher():
    return (arm("D", "AdaAD", teacher=("PGD-AT", "A")),)


def cost():
    students = "AdaADWithStudentsAttack"
    return (
        arm("cost", "10 steps", "AdaAD", 10),
        arm("cost", "2 steps", "AdaAD", 2),
        arm("cost", "linear, 10 steps", "AdaAD", 10, options=LINEAR),
        arm("cost", "student's attack", students),
        arm("cost", "student's attack + IGDM", students, options=IGDM),
        # Longer by the factor by which an epoch of exact AdaAD is slower.
        arm("cost", "2 steps, equal time", "AdaAD", 2, length=2.2),
        arm(
            *("cost", "linear, equal time", "AdaAD"),
            options=LINEAR,
            length=2.5,
        ),
        arm("cost", "student's attack, equal time", students, length=2.5),
    )


def levers():
    return (
        arm("levers", "PGD-AT, radius 1.25", "PGDAT", radius=1.25),
        arm("levers", "TRADES, beta 3", "TRADES", options={"beta": 3.0}),
        arm("levers", "AdaAD, radius 1.25", "AdaAD", radius=1.25),
        arm("levers", "AdaAD, alpha 0.5", "AdaAD", options={"alpha": 0.5}),
        arm("levers", "AdaAD, averaged", "AdaAD", averaging=0.995),
        arm("levers", "PGD-AT, averaged", "PGDAT", averaging=0.995),
        arm("levers", SHARPER, "AdaAD", options=SHARP),
    )


def wide_student():
    return (
        arm("wide", "PGD-AT", "PGDAT", network="wide student"),
        arm("wide", "AdaAD", network="wide student"),
    )


def load_data(budget, path):
    """Returns pairs of images and labels, by purpose.

    Args:
        budget: The `Budget`.
        path: An `.npz` file with `x_train`, `y_train`, `x_test` and `y_test`,
            or `None` for those that Keras downloads. The images of CIFAR-10 may
            have any order.
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
    x, y = in_published_order("train", x, y.ravel().astype("int32"))
    x_test, y_test = in_published_order(
        "test", x_test, y_test.ravel().astype("int32")
    )
    everything = slice(0, budget.teacher_images)
    labelled = stratified(y[everything], budget.images)
    return {
        "known": labelled,
        "all": (x[everything], y[everything]),
        "labelled": (x[labelled], y[labelled]),
        "held out": prepared(x, y, slice(-budget.held_out, None)),
        "test": prepared(x_test, y_test, slice(0, budget.attacked)),
    }


def stratified(labels, count):
    """Returns the first `count` rows with equally many of each class.

    If a class has too few, or `count` is no multiple of the number of classes,
    the first of the other rows fill the rest.
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


def large(name):
    def build():
        from keras_adaad import models

        return getattr(models, name)()

    return build


def tiny_network():
    from benchmarks import networks

    return networks.conv_net((4, 8), input_shape=(32, 32, 3), strides=(4, 2))


STUDY = Study(
    name="cifar10",
    epsilon=EPSILON,
    budgets=BUDGETS,
    arms=(
        TEACHER,
        *few_labels(),
        *few_labels_many_images(),
        *cost(),
        *all_labels(),
        *small_teacher(),
        *levers(),
        *wide_student(),
    ),
    networks={
        "teacher": wide_resnet(16, 2),
        "student": wide_resnet(10, 1),
        "wide student": wide_resnet(10, 2),
        "PreActResNet-18": large("PreActResNet18"),
        "MobileNetV2": large("MobileNetV2"),
        "tiny": tiny_network,
    },
    load_data=load_data,
    augmentation={"padding": 4, "flip": True},
    attacks=("pgd-20-sat",),
    columns=("clean", "PGD-20", "AutoAttack"),
    mixed_precision=True,
    keep_best=True,
    exact_test=True,
)
