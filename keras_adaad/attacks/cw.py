"""The margin loss of Carlini and Wagner, maximised by PGD."""

from typing import Any

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks.iterative import per_image
from keras_adaad.attacks.pgd import PGD


@keras.saving.register_keras_serializable(package="keras_adaad")
class CW(PGD):
    """Projected gradient ascent on the margin of the logits.

        max_{||x' - x|| <= epsilon}  max_{i != y} z_i(x') - z_y(x')

    The adversarial training literature reports this attack as "CW". It is not
    Carlini and Wagner's own L2 attack, which has no epsilon. Papers use
    different budgets, such as 30 steps (RSLAD) or 50 steps with 10 restarts
    (SAAD), so state yours. An image stops moving once it fools the model.

    Args:
        steps: Number of steps. Defaults to `30`.
        step_size: See `keras_adaad.attacks.PGD`.
        restarts: See `keras_adaad.attacks.IterativeAttack`. Starts are uniform.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.

    Example:

    ```python
    attack = keras_adaad.attacks.CW(epsilon=8 / 255, steps=50, restarts=10)
    x_adv = attack(model, x_test, y_test)
    ```

    Reference:
        - [Carlini & Wagner, 2017](https://arxiv.org/abs/1608.04644)
    """

    not_compiled: tuple[str, ...] = PGD.not_compiled

    def __init__(
        self,
        *,
        epsilon: float,
        step_size: float | None = None,
        steps: int = 30,
        norm: str = "linf",
        restarts: int = 1,
        input_range: tuple[float, float] = (0.0, 1.0),
        seed: int | None = None,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            step_size=step_size,
            steps=steps,
            norm=norm,
            restarts=restarts,
            loss="margin",
            input_range=input_range,
            seed=seed,
        )

    def step(
        self,
        objective: Objective,
        x: Tensor,
        state: Tensors,
        setting: dict[str, Any],
    ) -> Tensors:
        x_adv = state["x_adv"]
        _, fooled, gradient = backend.value_and_input_gradient(objective, x_adv)
        moved = self._move(x, x_adv, gradient, setting)
        return {"x_adv": ops.where(per_image(fooled, x), x_adv, moved)}
