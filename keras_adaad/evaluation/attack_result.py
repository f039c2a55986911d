"""The result of one attack in an evaluation."""

import dataclasses
from typing import Any

import numpy as np

from keras_adaad.evaluation import fields


@dataclasses.dataclass(eq=False)
class AttackResult:
    """The result of one attack in an evaluation.

    Args:
        name: Name of the attack, e.g. `"apgd-ce"`.
        group: Name of the protocol that the attack belongs to, e.g.
            `"AutoAttack (standard)"`, or `None`. The group counts as run when
            all of its results are `complete`. So an attack that the time
            budget left out needs a result too, with `complete=False`.
        parameters: Class name and every parameter of the attack. Values that
            JSON cannot hold are kept as their name or `repr`.
        attacked: Number of images the attack ran on.
        seconds: Duration of the attack.
        robust: Booleans of shape `(num_images,)`: still correct after this
            attack and all before it.
        individual: Booleans of the same shape: correct under this attack
            alone. `None` if the attack ran only on the images that earlier
            attacks had left, or did not finish.
        complete: `False` if the time budget stopped it. Defaults to `True`.
        lost: Indices, among the evaluated images, where the attack met NaN
            and did not fool the model, or where its point was outside of the
            ball or the range. Defaults to none.
        perturbations: Floats of shape `(num_images,)`: size of the smallest
            perturbation with which this attack fooled the model, infinite
            where it did not. Those of a minimum-norm attack may be larger than
            epsilon. Defaults to `None`: not measured.
        minimum_norm: Whether the attack looks for the smallest perturbation.
            Defaults to `False`.
        external: Whether the images are from elsewhere: see
            `RobustnessReport.with_adversarial`. Defaults to `False`.
    """

    name: str
    group: str | None
    parameters: dict[str, Any]
    attacked: int
    seconds: float
    robust: np.ndarray
    individual: np.ndarray | None
    complete: bool = True
    lost: list[int] = dataclasses.field(default_factory=list)
    perturbations: np.ndarray | None = None
    minimum_norm: bool = False
    external: bool = False

    def __post_init__(self) -> None:
        arrays = ("robust", "individual", "perturbations")
        fields.make_plain(self, except_for=arrays)
        fields.check(
            self,
            name="a string",
            group="a string or `None`",
            parameters="a dictionary",
            attacked="an integer",
            seconds="a finite number",
            complete="a bool",
            lost="a list of integers",
            minimum_norm="a bool",
            external="a bool",
        )
        self.robust = np.asarray(self.robust, bool)
        if self.individual is not None:
            self.individual = np.asarray(self.individual, bool)
        if self.perturbations is not None:
            self.perturbations = fields.sizes(
                "perturbations", self.perturbations
            )
