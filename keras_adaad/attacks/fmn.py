"""The fast minimum-norm attack (Pintor et al., NeurIPS 2021)."""

import math
from typing import Any

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks.iterative import per_image
from keras_adaad.attacks.minimum_norm import MinimumNormAttack
from keras_adaad.attacks.norms import NORMS

# gamma after the last step.
FINAL_GAMMA = 0.001


@keras.saving.register_keras_serializable(package="keras_adaad")
class FMN(MinimumNormAttack):
    """Adapts the radius of the ball to find the smallest perturbation.

    FMN minimises the margin `L = z_y - max_{i != y} z_i` in a ball around the
    clean image. Each image has a ball of its own. With `d = x_k - x`, and
    `|.|_q` for the dual norm of `|.|_p`, each step sets its radius to

        min(radius (1 - gamma), |d*|_p)    if x_k fools the model
        radius (1 + gamma)                 if an earlier point did
        |d|_p + |L| / |gradient of L|_q    if none has yet

    where `d*` is the smallest perturbation that fools the model so far. Then
    the image moves against the gradient:

        d <- clip(project(d - step_size * gradient / |gradient|_2))

    `step_size` falls to a hundredth, and `gamma` to 0.001, along half a period
    of a cosine. In both norms the gradient is divided by its L2 norm.

    Only points within epsilon count. If there is none, the attack returns the
    clean image. The search itself does not depend on epsilon: with a large
    epsilon, the attack returns the smallest perturbation found. There is no
    random start.

    The search approaches the decision boundary, and may stop just before it,
    as the published code does. This happens mostly in L2, on images with many
    pixels at an end of the range. A start that fools the model avoids it:
    `attack(model, x, y, noise=x_fooled - x)`.

    Args:
        steps: Number of steps. Defaults to `100`.
        step_size: Length of the first step in L2 norm, in the units of the
            model's input. Defaults to the width of `input_range`, the
            published 1 for images in [0, 1].
        gamma: Relative change of the radius in the first step, from 0.001
            to 1. Defaults to `0.05`.
        epsilon, norm, input_range: See `keras_adaad.attacks.Attack`.

    Raises:
        ValueError: If an argument is out of range, or `step_size` is 0.

    Example:

    ```python
    attack = keras_adaad.attacks.FMN(epsilon=1.0, steps=200)
    x_adv = attack(model, x_test, y_test)
    distance = abs(x_adv - x_test).max(axis=(1, 2, 3))
    ```

    Reference:
        - [Pintor et al., 2021](https://arxiv.org/abs/2102.12827), algorithm 1;
          `fmn.py` of the authors' Fast-Minimum-Norm-FMN-Attack.
    """

    not_compiled: tuple[str, ...] = ("epsilon", "gamma", "step_size", "steps")

    def __init__(
        self,
        *,
        epsilon: float,
        norm: str = "linf",
        steps: int = 100,
        step_size: float | None = None,
        gamma: float = 0.05,
        input_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            norm=norm,
            loss="margin",
            input_range=input_range,
        )
        self.steps = checks.check_integer("steps", steps)
        if step_size is None:
            low, high = self.input_range
            step_size = high - low
        self.step_size = checks.check_number(
            "step_size", step_size, open_minimum=True
        )
        self.gamma = checks.check_number(
            "gamma", gamma, minimum=FINAL_GAMMA, maximum=1.0
        )

    def settings(
        self, shape: tuple[int, ...], seed: int, round_: int = 0
    ) -> list[dict[str, Any]]:
        def annealed(first, last, step):
            cosine = math.cos(math.pi * step / self.steps)
            return last + (first - last) * (1.0 + cosine) / 2.0

        return [
            {
                "epsilon": self.epsilon,
                "step_size": annealed(
                    self.step_size, self.step_size / 100.0, step
                ),
                "gamma": annealed(self.gamma, FINAL_GAMMA, step),
            }
            for step in range(self.steps)
        ]

    def begin(
        self,
        objective: Objective,
        x: Tensor,
        noise: Tensor | None,
        setting: dict[str, Any],
    ) -> Tensors:
        state = super().begin(objective, x, noise, setting)
        return {**state, "radius": state["distance"]}

    def step(
        self,
        objective: Objective,
        x: Tensor,
        state: Tensors,
        setting: dict[str, Any],
    ) -> Tensors:
        norm, x_adv, gamma = NORMS[self.norm], state["x_adv"], setting["gamma"]
        # The objective is -L, so its gradient points to where L falls.
        margin, fooled, ahead = backend.value_and_input_gradient(
            objective, x_adv
        )
        size = self._size(x_adv - x)
        slope = ops.reshape(norm.dual_size(ahead), (-1,))
        closest = self._closest(state, x_adv, size, fooled)
        distance = closest["distance"]
        radius = ops.where(
            fooled,
            ops.minimum(state["radius"] * (1.0 - gamma), distance),
            ops.where(
                distance < math.inf,
                state["radius"] * (1.0 + gamma),
                size + ops.abs(margin) / (slope + 1e-12),
            ),
        )
        x_new = x_adv + setting["step_size"] * NORMS["l2"].direction(ahead)
        return {
            "x_adv": self._clip(norm.project(x_new, x, per_image(radius, x))),
            "radius": radius,
            **closest,
        }
