"""A training recipe, and the objects that a script builds from it."""

import dataclasses
import math
from typing import Any
from typing import Self

from keras_adaad import checks
from keras_adaad.attacks import PGD
from keras_adaad.methods.igdm import IGDM
from keras_adaad.optimizers import CoupledSGD
from keras_adaad.recipes.results import published_results
from keras_adaad.recipes.schedules import LateCosine
from keras_adaad.recipes.schedules import Schedule
from keras_adaad.recipes.schedules import of_steps
from keras_adaad.recipes.schedules import scaled


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A published training recipe.

    `None` marks a value that no known source states. The images are in [0, 1],
    cropped at random after zero padding, and half of them flipped.

    Args:
        name: Name of the recipe, see `keras_adaad.recipes.get`.
        dataset: `"cifar10"`, `"cifar100"` or `"tiny_imagenet"`.
        method: Name of the class in `keras_adaad`.
        constructor: Dict of the class's arguments in the published code, even
            if they are the defaults here.
        igdm: Dict of the arguments of `keras_adaad.IGDM`, a term of the loss.
            Defaults to none.
        epochs: Number of epochs.
        schedule: How the learning rate changes between epochs:
            `keras_adaad.recipes.Drops`, `Cosine` or `LateCosine`.
        teacher_sgd: Dict of the arguments of a `CoupledSGD` that trains the
            teacher, see `teacher_optimizer`. Defaults to none.
        epsilon: Radius of the attack.
        step_size: Step size of the attack.
        steps: Number of steps of the attack.
        start: Start of the attack: `"normal"` (scale 0.001) or `"uniform"`.
        clip_start: Whether the start is clipped to the images' range.
        batch_size: Number of images per batch.
        learning_rate: Initial learning rate.
        momentum: Momentum of PyTorch's SGD.
        weight_decay: Weight decay of PyTorch's SGD, which is coupled; see
            `keras_adaad.optimizers.CoupledSGD`.
        padding: Zero pixels on each side before the random crop.
        student: Name of the network in `keras_adaad.models`, with depth and
            width where it has them: `"WideResNet-34-10"`.
        teacher: Id of the teacher in RobustBench.
        selection: Which epoch's student is reported.
        average_from: The first epoch of stochastic weight averaging, counted
            from 0, or `None` for no averaging; see
            `keras_adaad.callbacks.StochasticWeightAveraging`.
        average_decay: Decay per step of an exponential average of the weights,
            or `None` for no such average. `optimizer` keeps the average; use
            `keras.callbacks.SwapEMAWeights(swap_on_epoch=True)` to evaluate
            and save it.
        extra_fraction: Fraction of each batch that is generated, an argument of
            the loaders of `keras_adaad.data`, or `None` for no generated data.
        cutmix: Whether the loaders apply CutMix. Defaults to `False`.
        source: The code that the recipe is taken from.
        notes: Tuple of sentences: where code and paper differ, and what is
            left to the reader.

    Example:

    ```python
    recipe = keras_adaad.recipes.get("ARD", "cifar10")
    print(recipe)
    distiller = keras_adaad.ARD(teacher, student, **recipe.arguments())
    distiller.compile(recipe.optimizer(steps_per_epoch=len(train_ds)))
    distiller.fit(train_ds, epochs=recipe.epochs)
    ```
    """

    name: str
    dataset: str
    method: str
    constructor: dict[str, Any]
    epochs: int
    schedule: Schedule
    weight_decay: float
    source: str
    igdm: dict[str, Any] | None = None
    teacher_sgd: dict[str, float] | None = None
    epsilon: float = 8 / 255
    step_size: float = 2 / 255
    steps: int = 10
    start: str = "normal"
    clip_start: bool = False
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    padding: int | None = 4
    student: str | None = None
    teacher: str | None = None
    selection: str | None = None
    average_from: int | None = None
    average_decay: float | None = None
    extra_fraction: float | None = None
    cutmix: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.check_tuple("notes", self.notes)

    def attack(
        self, epsilon: float | None = None, seed: int | None = None
    ) -> PGD:
        """Returns the attack of the recipe.

        Args:
            epsilon: Another radius; the step size scales with it.
            seed: Integer seed of the random starts.

        Returns:
            A `keras_adaad.attacks.PGD`, for images in [0, 1].
        """
        scale = 1.0 if epsilon is None else epsilon / self.epsilon
        return PGD(
            epsilon=self.epsilon * scale,
            step_size=self.step_size * scale,
            steps=self.steps,
            start=self.start,
            start_scale=0.001,
            clip_start=self.clip_start,
            seed=seed,
        )

    def arguments(
        self, epsilon: float | None = None, seed: int | None = None
    ) -> dict[str, Any]:
        """Returns the constructor's arguments, except for the networks.

        Args:
            epsilon, seed: See `attack`.

        Returns:
            A dict: `keras_adaad.ARD(teacher, student, **recipe.arguments())`.
        """
        arguments = {"attack": self.attack(epsilon, seed), **self.constructor}
        if self.igdm is not None:
            arguments["regularizers"] = [IGDM(**self.igdm)]
        return arguments

    def optimizer(
        self, steps_per_epoch: int, epochs: int | None = None
    ) -> CoupledSGD:
        """Returns the optimizer, with its learning rate schedule.

        Args:
            steps_per_epoch: Number of steps of this process in an epoch: `len`
                of the data set, divided by the number of processes under
                `torchrun`. In the papers' code it includes a last batch that
                isn't full.
            epochs: Another number of epochs; the schedule scales with it.

        Returns:
            A `keras_adaad.optimizers.CoupledSGD`.
        """
        recipe = self if epochs is None else self.with_epochs(epochs)
        rates = recipe.schedule.rates(self.learning_rate, recipe.epochs)
        average: dict[str, Any] = {}
        if self.average_decay is not None:
            average = {"use_ema": True, "ema_momentum": self.average_decay}
        return CoupledSGD(
            of_steps(rates, steps_per_epoch),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            **average,
        )

    def teacher_optimizer(
        self, steps_per_epoch: int, epochs: int | None = None
    ) -> CoupledSGD | None:
        """Returns the optimizer of a teacher that learns, with its schedule.

        The schedule begins with the teacher's first step. It is a `LateCosine`
        that falls from the start.

        Args:
            steps_per_epoch, epochs: See `optimizer`.

        Returns:
            A `keras_adaad.optimizers.CoupledSGD`, or `None` if the method
            trains no teacher.
        """
        if self.teacher_sgd is None:
            return None
        recipe = self if epochs is None else self.with_epochs(epochs)
        # Rounded as in the method.
        share = self.constructor["teacher_start"]
        idle = math.ceil(share * recipe.epochs - 1e-3)
        initial = self.teacher_sgd["learning_rate"]
        rates = LateCosine(0).rates(initial, recipe.epochs - idle) or [initial]
        schedule = of_steps(rates, steps_per_epoch)
        return CoupledSGD(**{**self.teacher_sgd, "learning_rate": schedule})

    def with_epochs(self, epochs: int) -> Self:
        """Returns the recipe with another number of epochs.

        Everything counted in epochs is scaled and rounded up: the schedule, the
        start of an average, and the method's `begin_epoch`.

        Args:
            epochs: Number of epochs.

        Returns:
            A `Recipe`.
        """
        epochs = checks.check_integer("epochs", epochs)

        lengths = self.epochs, epochs
        constructor = self.constructor
        if "begin_epoch" in constructor:
            begin = scaled(constructor["begin_epoch"], *lengths)
            constructor = {**constructor, "begin_epoch": begin}
        average_from = self.average_from
        if average_from is not None:
            average_from = scaled(average_from, *lengths)
        return dataclasses.replace(
            self,
            epochs=epochs,
            schedule=self.schedule.scaled(*lengths),
            constructor=constructor,
            average_from=average_from,
        )

    def average_text(self) -> str:
        """Returns how the weights are averaged as text."""
        if self.average_decay is not None:
            return f"exponential, decay {self.average_decay:g} per step"
        if self.average_from is not None:
            return f"from epoch {self.average_from}"
        return "no"

    def __str__(self) -> str:
        attack = (
            f"PGD-{self.steps}, epsilon {pixels(self.epsilon)}, step "
            f"{pixels(self.step_size)}, {self.start} start"
        )
        optimizer = (
            f"SGD, learning rate {self.learning_rate:g}, momentum "
            f"{self.momentum:g}, weight decay {self.weight_decay:g} (coupled)"
        )
        options = [_call(self.constructor)]
        if self.igdm is not None:
            options.append(f"regularizers=[IGDM({_call(self.igdm)})]")
        call = ", ".join(option for option in options if option)
        learning, generated = {}, {}
        if self.teacher_sgd is not None:
            learning = {"teacher SGD": _call(self.teacher_sgd)}
        if self.extra_fraction is not None:
            cutmix = ", CutMix" if self.cutmix else ""
            share = f"{self.extra_fraction:.0%} of each batch"
            generated = {"generated": share + cutmix}
        rows = {
            "method": f"{self.method}({call})",
            "attack": attack,
            "optimizer": optimizer,
            "epochs": self.epochs,
            "schedule": self.schedule,
            **learning,
            "batch size": self.batch_size,
            "padding": self.padding,
            **generated,
            "student": self.student,
            "teacher": self.teacher,
            "selection": self.selection,
            "average": self.average_text(),
            "source": self.source,
        }
        lines = [f"{self.name} on {self.dataset}"]
        for key, value in rows.items():
            value = "not known" if value is None else value
            lines.append(f"  {key:<12}{value}")
        for result in published_results(self.name, self.dataset):
            lines.insert(-1, f"  {'published':<12}{result}")
        lines += [f"  - {note}" for note in self.notes]
        return "\n".join(lines)


def pixels(value):
    """Returns a number as text, as `8/255` if it is such a fraction."""
    levels = round(value * 255, 6)
    return f"{levels:g}/255" if levels == int(levels) else f"{value:g}"


def _call(arguments):
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
