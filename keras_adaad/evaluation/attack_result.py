"""What one attack did to the model."""

import dataclasses

import numpy as np

from keras_adaad.evaluation import fields


@dataclasses.dataclass(eq=False)
class AttackResult:
    """What one attack did to the model.

    Args:
        name: Name of the attack, e.g. `"apgd-ce"`.
        group: Name of the protocol that the attack is a part of, e.g.
            `"AutoAttack (standard)"`, or `None`. The group counts as run when
            all results that name it are `complete`: an attack that the time
            budget left out needs a result too, with `complete=False`.
        parameters: Class name and every parameter of the attack. What JSON
            does not know is kept as its name or `repr`.
        attacked: Number of images it was run on.
        seconds: Time it took.
        robust: Booleans of shape `(num_images,)`: still right after this
            attack and all before it.
        individual: Booleans of the same shape: right under this attack alone.
            `None` if it saw only what earlier attacks had left.
        complete: `False` if the time budget stopped it. Defaults to `True`.
        lost: Places, among the images evaluated, where it did not fool the
            model and met NaN, or where its point was outside of the ball or
            the range. Defaults to none.
    """

    name: str
    group: str | None
    parameters: dict
    attacked: int
    seconds: float
    robust: np.ndarray
    individual: np.ndarray | None
    complete: bool = True
    lost: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        fields.make_plain(self, except_for=("robust", "individual"))
        fields.check(
            self,
            name="a string",
            group="a string or `None`",
            parameters="a dictionary",
            attacked="an integer",
            seconds="a finite number",
            complete="a bool",
            lost="a list of integers",
        )
        self.robust = np.asarray(self.robust, bool)
        if self.individual is not None:
            self.individual = np.asarray(self.individual, bool)
