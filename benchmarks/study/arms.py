"""The parts of a study: budgets and arms."""

import dataclasses
import pathlib
import re
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Budget:
    """The size of a study.

    Args:
        images: Number of labelled training images of a student.
        epochs: Number of epochs of a student, on these images.
        teacher_images: Number of training images of the teacher.
        teacher_epochs: Number of epochs of the teacher.
        attacked: Number of test images that are attacked.
        held_out: Number of training images left out, for the curves.
        batch_size: Number of images in a training batch.
        networks: Dict from names of networks to the names of substitutes.
        autoattack: Name of the attack to run as AutoAttack, whose thousands of
            steps take minutes even with the smallest network.
    """

    images: int
    epochs: int
    teacher_images: int
    teacher_epochs: int
    attacked: int
    held_out: int
    batch_size: int
    networks: dict = dataclasses.field(default_factory=dict)
    autoattack: str = "autoattack"


@dataclasses.dataclass(frozen=True)
class Arm:
    """One network, and how it is trained.

    Args:
        name: Its name in the tables.
        method: A class of `keras_adaad` or of `benchmarks.study.methods`, or
            "plain training" or "plain distillation".
        regime: Name of a group of arms to compare. Defaults to none.
        options: Dict of the class's arguments. Three more are known: `igdm`
            adds `IGDM`, `sample_weighting` names the weights of the samples,
            and `teacher_temperature` divides the teacher's logits.
        attack: Dict of changes to the published attack: `steps`, or `radius`
            and `step`, in units of epsilon.
        network: Name of the network that is trained.
        teacher: Name and regime of the arm that trained the teacher, with
            seed 0, or `None` for no teacher.
        images: The training images: "labelled", "all" with their labels,
            "unlabelled" for all without labels, or "pseudo" for all, with the
            teacher's labels for those that are not labelled.
        length: Number of epochs, in units of the budget's.
        optimizer: Name of the optimizer and its schedule.
        averaging: Momentum of an exponential average of the weights, or
            `None`. The result is then that average.
    """

    name: str
    method: str
    regime: str = ""
    options: dict = dataclasses.field(default_factory=dict)
    attack: dict = dataclasses.field(default_factory=dict)
    network: str = "student"
    teacher: tuple | None = ("teacher", "")
    images: str = "labelled"
    length: float = 1.0
    optimizer: str = "sgd, steps"
    averaging: float | None = None

    @property
    def is_teacher(self):
        return self.name == "teacher"

    def file_name(self, seed):
        """Returns the name of a run's files, without the suffix."""
        words = re.findall(r"[\w.'-]+", f"{self.regime} {self.name}")
        return "-".join([*words, str(seed)]).replace("'", "")

    def runs_in(self, folder):
        """Returns the paths of the JSONs of its runs in a folder, by seed."""
        pattern = re.escape(self.file_name("")) + r"(\d+)\.json"
        found = {}
        for path in sorted(pathlib.Path(folder).iterdir()):
            if match := re.fullmatch(pattern, path.name):
                found[int(match[1])] = path
        return found


@dataclasses.dataclass(frozen=True)
class Study:
    """A data set, its budgets, and the arms.

    Args:
        name: Its name on the command line.
        epsilon: Radius of all attacks.
        budgets: Dict of `Budget`s.
        arms: Tuple of `Arm`s. Those that train teachers come first.
        networks: Dict of functions that build a network.
        load_data: Function of the budget and a path. Returns a dict of pairs
            of images and labels: "labelled", "all", "held out" and "test";
            "known" are the rows of "all" that are "labelled".
        augmentation: Dict of arguments of `keras_adaad.data.load_arrays`.
        attacks: Tuple of names of attacks, each reported alone; the standard
            AutoAttack follows.
        columns: Names of the accuracies in the tables.
        mixed_precision: Whether to train in bfloat16 on machines that are made
            for it.
        keep_best: Whether the weights of the best epoch on the held-out
            images are attacked too.
        exact_test: Whether two runs are compared by McNemar's test instead of
            a t-test.
        robust_above: Minimum AutoAttack accuracy, in percent, for the second
            panel of the picture.
    """

    name: str
    epsilon: float
    budgets: dict
    arms: tuple
    networks: dict
    load_data: Callable
    augmentation: dict
    attacks: tuple
    columns: tuple
    mixed_precision: bool = False
    keep_best: bool = False
    exact_test: bool = False
    robust_above: float = 15.0

    def arm(self, name, regime=""):
        """Returns an arm by its name and regime."""
        (found,) = (
            arm for arm in self.arms if (arm.name, arm.regime) == (name, regime)
        )
        return found
