"""Fashion-MNIST: a short study of every method, with epsilon 0.1.

The images are downloaded by Keras, or read from a folder with the four original
files. The published runs were made by an older script, which shuffled the
images differently.
"""

import functools
import gzip
import pathlib

import numpy as np

from benchmarks.study.arms import Arm
from benchmarks.study.arms import Budget
from benchmarks.study.arms import Study

BUDGETS = {
    # To check that everything works.
    "tiny": Budget(64, 2, 128, 1, 8, 32, 64, autoattack="apgd-ce"),
    "small": Budget(12_000, 6, 20_000, 6, 500, 500, 64),
    # It has the same teacher as "small": copy `teacher-0.*` to save time.
    "longer": Budget(12_000, 18, 20_000, 6, 500, 500, 64),
    "full": Budget(59_000, 40, 59_000, 40, 2_000, 1_000, 64),
}
arm = functools.partial(Arm, optimizer="adam, cosine")
ARMS = (
    arm("teacher", "PGDAT", network="teacher", teacher=None, images="all"),
    arm("plain training", "plain training", teacher=None),
    arm("plain distillation", "plain distillation"),
    arm("PGD-AT", "PGDAT", teacher=None),
    arm("TRADES", "TRADES", teacher=None),
    arm("ARD", "ARD"),
    arm("IAD", "IAD"),
    arm("RSLAD", "RSLAD"),
    arm("AdaAD", "AdaAD"),
    arm("AdaAD, twice the radius", "AdaAD", attack={"radius": 2.0}),
    arm("AdaIAD", "AdaIAD"),
    arm("SAAD", "SAAD"),
    arm("AdaAD + IGDM", "AdaAD", options={"igdm": True}),
)


def load_data(budget, folder=None):
    """Returns pairs of images in [0, 1] and labels, by purpose."""
    if folder is None:
        import keras

        train, test = keras.datasets.fashion_mnist.load_data()
    else:
        train, test = (read_files(folder, name) for name in ("train", "t10k"))
    parts = {
        "all": (train, slice(0, budget.teacher_images)),
        "labelled": (train, slice(0, budget.images)),
        "held out": (train, slice(-budget.held_out, None)),
        "test": (test, slice(0, budget.attacked)),
    }
    return {
        name: (prepare(images[part]), labels[part].astype("int32"))
        for name, ((images, labels), part) in parts.items()
    }


def prepare(images):
    return (images[..., None] / 255).astype("float32")


def read_files(folder, name):
    """Reads images and labels from a pair of the original files."""
    arrays = []
    for kind, header, shape in (
        ("images-idx3", 16, (-1, 28, 28)),
        ("labels-idx1", 8, (-1,)),
    ):
        path = pathlib.Path(folder, f"{name}-{kind}-ubyte.gz")
        with gzip.open(path) as file:
            values = np.frombuffer(file.read(), "uint8", offset=header)
        arrays.append(values.reshape(shape))
    return arrays


def conv_net(*widths):
    def build():
        from benchmarks import networks

        return networks.conv_net(widths, strides=(2, 2, 1))

    return build


STUDY = Study(
    name="fashion_mnist",
    epsilon=0.1,
    budgets=BUDGETS,
    arms=ARMS,
    networks={
        "teacher": conv_net(32, 64, 128),
        "student": conv_net(16, 32, 64),
    },
    load_data=load_data,
    augmentation={"padding": 0, "flip": False},
    attacks=("fgsm", "pgd-20-sat", "cw"),
    columns=("clean", "FGSM", "PGD-20", "CW", "AutoAttack"),
    robust_above=30.0,
)
