"""The fast adaptive boundary attack (Croce & Hein, ICML 2020)."""

from typing import Any

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad._typing import RNG
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks.iterative import per_image
from keras_adaad.attacks.minimum_norm import MinimumNormAttack
from keras_adaad.attacks.norms import NORMS
from keras_adaad.attacks.search import runner_up_classes
from keras_adaad.losses import label_indices
from keras_adaad.losses import targeted_margin_from_logits


@keras.saving.register_keras_serializable(package="keras_adaad")
class FAB(MinimumNormAttack):
    """Walks to the decision boundary, and stays close to the clean image.

    FAB minimises the size of the perturbation. Each step linearises the
    classifier. It projects the current point and the clean image onto the
    decision hyperplane within the input range (by `d1` and `d2`), and moves to

        clip((1 - a) (x_k + eta d1) + a (x + eta d2)),
        a = min(|d1| / (|d1| + |d2|), alpha_max)

    If the new point fools the model, it is kept if it is the closest so far,
    and the search goes back towards the clean image: `x + beta (x_k - x)`.
    Only points within epsilon count. If there is none, the attack returns the
    clean image.

    Args:
        steps: Number of steps towards each target. Defaults to `100`.
        restarts: Number of searches for each target. All but the first start
            at a random point at distance `epsilon / 2`. Defaults to `1`.
        targets: Number of runner-up classes to walk to, one after another.
            `None` selects the untargeted attack: each step walks to the
            nearest boundary, at the cost of one gradient per class.
            Defaults to `9`.
        alpha_max: Largest weight of the clean image. Defaults to `0.1`.
        eta: Overshoot beyond the hyperplane, at least 1. Defaults to `1.05`.
        beta: Factor that shrinks the perturbation once the model is fooled.
            Defaults to `0.9`.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.

    Example:

    ```python
    x_adv = keras_adaad.attacks.FAB(epsilon=8 / 255)(model, x_test, y_test)
    ```

    Reference:
        - [Croce & Hein, 2020](https://arxiv.org/abs/1907.02044), algorithm 1;
          `fab_base.py` of the authors' AutoAttack.
    """

    not_compiled: tuple[str, ...] = ("epsilon", "restarts", "seed", "steps")

    def __init__(
        self,
        *,
        epsilon: float,
        norm: str = "linf",
        steps: int = 100,
        restarts: int = 1,
        targets: int | None = 9,
        alpha_max: float = 0.1,
        eta: float = 1.05,
        beta: float = 0.9,
        input_range: tuple[float, float] = (0.0, 1.0),
        seed: int | None = None,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            norm=norm,
            restarts=restarts,
            input_range=input_range,
            seed=seed,
        )
        self.steps = checks.check_integer("steps", steps)
        if targets is not None:
            targets = checks.check_integer("targets", targets)
        self.targets = targets
        self.alpha_max = checks.check_number(
            "alpha_max", alpha_max, maximum=1.0
        )
        self.eta = checks.check_number("eta", eta, minimum=1.0)
        self.beta = checks.check_number("beta", beta, maximum=1.0)

    def _starts(self, num_classes):
        if self.targets is None:
            return self.restarts
        return min(self.targets, num_classes - 1) * self.restarts

    def _target_classes(self, classifier, x, batch_size):
        if self.targets is None:
            return None
        return runner_up_classes(self, classifier, x, batch_size)

    def values(
        self, labels: Tensor, targets: Tensor | None, logits: Tensor
    ) -> Tensor:
        """Returns `z_t - z_y`, or one value per class if untargeted."""
        if targets is not None:
            return targeted_margin_from_logits(labels, targets, logits)
        labels = ops.expand_dims(label_indices(labels, logits), -1)
        difference = logits - ops.take_along_axis(logits, labels, axis=-1)
        classes = ops.arange(logits.shape[-1], dtype="int32")
        # There is no boundary between a class and itself.
        return ops.where(classes == labels, 1e10, difference)

    def settings(
        self, shape: tuple[int, ...], seed: int, round_: int = 0
    ) -> list[dict[str, Any]]:
        return self.steps * [{"epsilon": self.epsilon}]

    def start_noise(
        self, shape: tuple[int, ...], rng: RNG, round_: int = 0
    ) -> Tensor | None:
        if round_ % self.restarts == 0:
            return None
        return NORMS[self.norm].on_sphere(shape, self.epsilon / 2, rng)

    def step(
        self,
        objective: Objective,
        x: Tensor,
        state: Tensors,
        setting: dict[str, Any],
    ) -> Tensors:
        norm, x_adv = NORMS[self.norm], state["x_adv"]
        value, slope = self._hyperplane(objective, x_adv)
        d1 = self._onto(x_adv, slope, value)
        d2 = self._onto(x, slope, value + _sum(slope * (x - x_adv)))
        a1, a2 = (ops.maximum(norm.size(d), 1e-8) for d in (d1, d2))
        a = ops.minimum(a1 / (a1 + a2), self.alpha_max)
        x_new = self._clip(
            (1.0 - a) * (x_adv + self.eta * d1) + a * (x + self.eta * d2)
        )
        _, fooled = objective(x_new)
        back = x + self.beta * (x_new - x)
        return {
            "x_adv": ops.where(per_image(fooled, x), back, x_new),
            **self._closest(state, x_new, self._size(x_new - x), fooled),
        }

    def _hyperplane(self, objective, x_adv):
        """Returns value and gradient at `x_adv` of the boundary to reach."""
        if self.targets is not None:
            value, _, slope = backend.value_and_input_gradient(objective, x_adv)
            return value, slope
        values, _, slopes = backend.input_jacobian(objective, x_adv)
        # The distance to a hyperplane is measured in the dual norm.
        axes = tuple(range(2, len(slopes.shape)))
        if self.norm == "linf":
            dual = ops.sum(ops.abs(slopes), axis=axes)
        else:
            dual = ops.sqrt(ops.sum(ops.square(slopes), axis=axes))
        nearest = ops.argmin(ops.abs(values) / (dual + 1e-12), axis=-1)
        nearest = ops.expand_dims(nearest, -1)
        value = ops.take_along_axis(values, nearest, axis=1)[:, 0]
        nearest = per_image(nearest, slopes)
        return value, ops.take_along_axis(slopes, nearest, axis=1)[:, 0]

    def _onto(self, x, slope, value):
        return onto_hyperplane(x, slope, value, self.norm, *self.input_range)


def onto_hyperplane(x, slope, value, norm, low, high):
    """Returns the smallest `d` with `value + <slope, d> = 0` inside the box.

    Every pixel moves by the same amount (L-infinity), or in proportion to its
    slope (L2), until it reaches the end of the range:

        d_i = -sign(value slope_i) min(m r_i, limit_i),  r_i = 1 or |slope_i|

    The distance covered is a concave, piecewise linear function of `m`.
    Newton's method from `m = 0` approaches the solution from below, and is
    exact once it reaches the right piece, so no sort is needed. If the
    hyperplane misses the box, the result goes as far as the box allows.
    """
    way = -ops.sign(per_image(value, x)) * ops.sign(slope)
    limit = ops.where(way > 0.0, high - x, x - low)
    slope, needed = ops.abs(slope), ops.abs(value)
    rate = ops.ones_like(slope) if norm == "linf" else slope

    def climb(m, _):
        reach = per_image(m, x) * rate
        covered = _sum(slope * ops.minimum(reach, limit))
        steepness = _sum(ops.where(reach < limit, slope * rate, 0.0))
        missing = ops.maximum(needed - covered, 0.0)
        # The loop ends at a step that is zero or lost in rounding.
        step = ops.where(steepness > 0.0, missing / (steepness + 1e-30), 0.0)
        return m + step, step > 1e-6 * m

    m, _ = ops.while_loop(
        lambda m, moving: ops.any(moving),
        climb,
        (ops.zeros_like(needed), ops.ones_like(needed, dtype="bool")),
        maximum_iterations=50,
    )
    return way * ops.minimum(per_image(m, x) * rate, limit)


def _sum(x):
    return ops.sum(x, axis=tuple(range(1, len(x.shape))))
