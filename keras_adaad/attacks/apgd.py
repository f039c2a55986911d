"""Auto-PGD, untargeted and targeted (Croce & Hein, ICML 2020)."""

from typing import Any

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad._typing import RNG
from keras_adaad._typing import Loss
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks.iterative import IterativeAttack
from keras_adaad.attacks.iterative import per_image
from keras_adaad.attacks.norms import NORMS
from keras_adaad.attacks.objective import ObjectiveAttack
from keras_adaad.attacks.search import runner_up_classes
from keras_adaad.losses import targeted_dlr_from_logits


class AutoPGD(IterativeAttack):
    """Base class of `APGD` and `TargetedAPGD`; see `APGD`."""

    def __init__(
        self,
        *,
        epsilon: float,
        norm: str = "linf",
        steps: int = 100,
        restarts: int = 1,
        loss: str | Loss = "cross_entropy",
        rho: float = 0.75,
        eot_steps: int = 1,
        input_range: tuple[float, float] = (0.0, 1.0),
        seed: int | None = None,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            norm=norm,
            restarts=restarts,
            loss=loss,
            input_range=input_range,
            seed=seed,
        )
        self.steps = checks.check_integer("steps", steps)
        self.rho = checks.check_number("rho", rho, maximum=1.0)
        self.eot_steps = checks.check_integer("eot_steps", eot_steps)

    def settings(
        self, shape: tuple[int, ...], seed: int, round_: int = 0
    ) -> list[dict[str, Any]]:
        intervals = dict(checkpoints(self.steps))
        return [
            {
                "epsilon": self.epsilon,
                # There is no momentum yet on the first step.
                "share": 1.0 if step == 1 else 0.75,
                # At a checkpoint, the steps since the last one; else 0.
                "interval": float(intervals.get(step, 0)),
            }
            for step in range(1, self.steps + 1)
        ]

    def start_noise(
        self, shape: tuple[int, ...], rng: RNG, round_: int = 0
    ) -> Tensor | None:
        return NORMS[self.norm].on_sphere(shape, self.epsilon, rng)

    def begin(
        self,
        objective: Objective,
        x: Tensor,
        noise: Tensor | None,
        setting: dict[str, Any],
    ) -> Tensors:
        x_adv = self._clip(x + noise)
        values, fooled, gradient = self._gradient(objective, x_adv)
        zeros = ops.zeros_like(values)
        return {
            "x_adv": x_adv,
            "x_before": x_adv,
            "gradient": gradient,
            "x_best": x_adv,
            "gradient_best": gradient,
            "value_best": values,
            # The last point that fools the model, if any does.
            "x_fooled": x_adv,
            "fooled": fooled,
            "step_size": zeros + 2.0 * setting["epsilon"],
            # Read at checkpoints. As in the reference, the first step compares
            # its value with 0, not with the value of the start.
            "value": zeros,
            "rises": zeros,
            "value_best_then": values,
            "halved_then": ops.ones_like(fooled),
        }

    def step(
        self,
        objective: Objective,
        x: Tensor,
        state: Tensors,
        setting: dict[str, Any],
    ) -> Tensors:
        x_adv, x_before = state["x_adv"], state["x_before"]
        step_size = per_image(state["step_size"], x)
        share = setting["share"]

        ahead = NORMS[self.norm].direction(state["gradient"])
        z = self._into_ball(x_adv + step_size * ahead, x, setting)
        momentum = share * (z - x_adv) + (1.0 - share) * (x_adv - x_before)
        x_new = self._into_ball(x_adv + momentum, x, setting)
        values, fooled, gradient = self._gradient(objective, x_new)

        new = {
            "x_adv": x_new,
            "x_before": x_adv,
            "gradient": gradient,
            "x_fooled": _where(fooled, x_new, state["x_fooled"]),
            "fooled": ops.logical_or(fooled, state["fooled"]),
            "value": values,
            "rises": state["rises"]
            + ops.cast(values > state["value"], "float32"),
        }
        higher = values > state["value_best"]
        new["x_best"] = _where(higher, x_new, state["x_best"])
        new["gradient_best"] = _where(higher, gradient, state["gradient_best"])
        new["value_best"] = ops.where(higher, values, state["value_best"])
        return {**state, **new, **self._checkpoint({**state, **new}, setting)}

    def result(
        self, x: Tensor, state: Tensors, setting: dict[str, Any]
    ) -> Tensor:
        return _where(state["fooled"], state["x_fooled"], state["x_best"])

    def _checkpoint(self, state, setting):
        """Halves step sizes where needed, if this step is a checkpoint."""
        now = setting["interval"] > 0.0
        too_few = state["rises"] <= self.rho * setting["interval"]
        stuck = ops.logical_and(
            ops.logical_not(state["halved_then"]),
            state["value_best"] <= state["value_best_then"],
        )
        halve = ops.logical_and(now, ops.logical_or(too_few, stuck))
        return {
            "step_size": state["step_size"] * ops.where(halve, 0.5, 1.0),
            "x_adv": _where(halve, state["x_best"], state["x_adv"]),
            "gradient": _where(
                halve, state["gradient_best"], state["gradient"]
            ),
            "rises": ops.where(now, 0.0, state["rises"]),
            "halved_then": ops.where(now, halve, state["halved_then"]),
            "value_best_then": ops.where(
                now, state["value_best"], state["value_best_then"]
            ),
        }

    def _gradient(self, objective, x_adv):
        total = 0.0
        for _ in range(self.eot_steps):
            values, fooled, gradient = backend.value_and_input_gradient(
                objective, x_adv
            )
            total = total + gradient
        return values, fooled, total / self.eot_steps

    def _into_ball(self, x_adv, x, setting):
        x_adv = NORMS[self.norm].project(x_adv, x, setting["epsilon"])
        return self._clip(x_adv)


@keras.saving.register_keras_serializable(package="keras_adaad")
class APGD(AutoPGD, ObjectiveAttack):
    """Projected gradient ascent with momentum and an adaptive step size.

    The search starts at a random point at distance `epsilon`. Each step is
    (equations 2 and 3)

        z   = project(x_k + step_size * direction(gradient))
        x_+ = project(x_k + 3/4 (z - x_k) + 1/4 (x_k - x_{k-1}))

    The step size starts at `2 * epsilon`. At checkpoints it is halved, and the
    search returns to its best point, for images whose loss rose in too few of
    the steps since the last checkpoint (condition 1). The same happens if the
    last checkpoint kept the step size, but the best loss has not risen since
    (condition 2).

    The attack returns the last point that fooled the model or, if there is
    none, the point with the highest loss.

    Args:
        steps: Number of steps. Defaults to `100`.
        rho: The step size is halved if the loss rose in no more than this
            fraction of the steps (condition 1). Defaults to `0.75`.
        eot_steps: Number of gradients averaged in each step, for a randomised
            model (expectation over transformation). Defaults to `1`.
        restarts, loss: See `keras_adaad.attacks.IterativeAttack`.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.

    Example:

    ```python
    attack = keras_adaad.attacks.APGD(epsilon=8 / 255, loss="dlr", seed=0)
    x_adv = attack(model, x_test, y_test)
    ```

    Reference:
        - [Croce & Hein, 2020](https://arxiv.org/abs/2003.01690), algorithm 1;
          `autopgd_base.py` of the authors' AutoAttack.
    """

    not_compiled: tuple[str, ...] = ("epsilon", "restarts", "seed", "steps")

    def _starts_in_ball(self):
        # On its border, and it may be what the attack returns.
        return True


@keras.saving.register_keras_serializable(package="keras_adaad")
class TargetedAPGD(AutoPGD):
    """`APGD` on the targeted DLR loss, towards one class after another.

    The targets are the runner-up classes on the clean image, the most likely
    first. They only guide the search: any wrong class is a success.

    Args:
        targets: Number of target classes, at most the number of other
            classes. Defaults to `9`.
        steps, restarts, rho, eot_steps: See `keras_adaad.attacks.APGD`.
            `steps` and `restarts` count for each target.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.

    Reference:
        - [Croce & Hein, 2020](https://arxiv.org/abs/2003.01690), equation 7.
    """

    not_compiled: tuple[str, ...] = (*APGD.not_compiled, "targets")

    def __init__(
        self,
        *,
        epsilon: float,
        norm: str = "linf",
        steps: int = 100,
        restarts: int = 1,
        targets: int = 9,
        rho: float = 0.75,
        eot_steps: int = 1,
        input_range: tuple[float, float] = (0.0, 1.0),
        seed: int | None = None,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            norm=norm,
            steps=steps,
            restarts=restarts,
            rho=rho,
            eot_steps=eot_steps,
            input_range=input_range,
            seed=seed,
        )
        self.targets = checks.check_integer("targets", targets)

    def _starts(self, num_classes):
        return min(self.targets, num_classes - 1) * self.restarts

    def _target_classes(self, classifier, x, batch_size):
        return runner_up_classes(self, classifier, x, batch_size)

    def values(
        self, labels: Tensor, targets: Tensor | None, logits: Tensor
    ) -> Tensor:
        return targeted_dlr_from_logits(labels, targets, logits)

    def _check_classes(self, num_classes):
        if num_classes < 4:
            raise ValueError(
                "The targeted DLR loss of TargetedAPGD needs at least 4 "
                'classes. Use `APGD(loss="margin")` or `FAB`. '
                f"Received: a model with {num_classes} classes"
            )


def checkpoints(steps):
    """Returns the checkpoints of a search as pairs `(step, interval)`."""
    interval = max(int(0.22 * steps), 1)
    step, found = interval, []
    while step <= steps:
        found.append((step, interval))
        interval = max(
            interval - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)
        )
        step += interval
    return found


def _where(condition, x, y):
    return ops.where(per_image(condition, x), x, y)
