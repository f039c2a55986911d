"""Projected gradient ascent (Madry et al., ICLR 2018)."""

import functools
import warnings

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad.attacks.attack import Attack
from keras_adaad.attacks.draws import GraphDraws
from keras_adaad.attacks.norms import NORMS


@keras.saving.register_keras_serializable(package="keras_adaad")
class PGD(Attack):
    """Projected gradient ascent in an L-infinity or L2 ball.

    From a start `x + noise`, each step moves `step_size` along the steepest
    ascent direction of the norm, projects onto the ball around `x`, and clips
    to the input range:

        x' <- clip(project(x' + step_size * direction(grad objective(x'))))

    Args:
        epsilon: Radius of the ball, in the units of the model's input.
        step_size: Length of a step, in the same units. Defaults to
            `epsilon / 4`, the field's 2/255 for 8/255.
        steps: Number of steps. Defaults to `10`.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
        start: `"uniform"` for a uniform point of the ball, `"normal"` for
            Gaussian noise per pixel, `None` to start at `x`. Defaults to
            `"uniform"`.
        start_scale: Standard deviation of the `"normal"` start, in the units
            of the model's input. Defaults to `0.001`.
        clip_start: Whether the start is clipped to the input range before the
            first gradient. The reference code of AdaAD does not.
            Defaults to `True`.
        restarts: Number of searches from different starts. Per sample, a
            point that fools the model is kept, and of several such the one
            with the highest loss. Defaults to `1`.
        loss: What `attack(model, x, y)` raises: `"cross_entropy"`, or a
            function `loss(labels, logits)` that returns one value per sample.
        input_range: Pair `(low, high)` of the values a pixel can have.
            Defaults to `(0.0, 1.0)`.
        seed: Integer that decides the random starts, or `None`.

    Raises:
        ValueError: If an argument is out of range, or `step_size` is more
            than `2 * epsilon`: the two are then probably swapped.

    Example:

    ```python
    pgd20 = keras_adaad.attacks.PGD(
        epsilon=8 / 255, step_size=2 / 255, steps=20, restarts=5, seed=0
    )
    x_adv = pgd20(model, x_test, y_test)
    ```

    Reference:
        - [Madry et al., 2018](https://arxiv.org/abs/1706.06083)
    """

    def __init__(
        self,
        *,
        epsilon,
        step_size=None,
        steps=10,
        norm="linf",
        start="uniform",
        start_scale=0.001,
        clip_start=True,
        restarts=1,
        loss="cross_entropy",
        input_range=(0.0, 1.0),
        seed=None,
    ):
        super().__init__(
            epsilon=epsilon,
            norm=norm,
            restarts=restarts,
            loss=loss,
            input_range=input_range,
            seed=seed,
        )
        if step_size is None:
            step_size = self.epsilon / 4
        self.step_size = checks.check_number("step_size", step_size)
        _check_not_swapped(self.step_size, self.epsilon)
        self.steps = checks.check_integer("steps", steps)
        self.start = checks.check_choice(
            "start", start, ("uniform", "normal", None)
        )
        self.start_scale = checks.check_number("start_scale", start_scale)
        self.clip_start = bool(clip_start)

    def maximize(self, objective, x, noise=None, seed=None, succeeded=None):
        draws = GraphDraws(self.seed if seed is None else seed)
        step = functools.partial(self._step, _one_per_sample(objective), x)

        def search(restart):
            if noise is None:
                perturbation = self.start_noise(ops.shape(x), draws)
            else:
                perturbation = noise[restart]
            start = self._start(x, perturbation)
            return backend.repeat(self.steps, step, start)

        if noise is not None and len(noise.shape) == len(x.shape):
            noise = noise[None]
        best = search(0)
        for restart in range(1, self.restarts):
            best = _better(search(restart), best, objective, succeeded)
        return best

    def start_noise(self, shape, draws):
        if self.start is None:
            return None
        if self.start == "normal":
            return self.start_scale * draws.normal(shape)
        return NORMS[self.norm].uniform(shape, self.epsilon, draws)

    def _start(self, x, noise):
        if noise is None:
            return x
        return self._clip(x + noise) if self.clip_start else x + noise

    def _step(self, objective, x, x_adv):
        norm = NORMS[self.norm]
        gradient = backend.input_gradient(objective, x_adv)
        x_adv = x_adv + self.step_size * norm.direction(gradient)
        return self._clip(norm.project(x_adv, x, self.epsilon))

    def _clip(self, x):
        return ops.clip(x, *self.input_range)

    def get_config(self):
        return {
            **super().get_config(),
            "step_size": self.step_size,
            "steps": self.steps,
            "start": self.start,
            "start_scale": self.start_scale,
            "clip_start": self.clip_start,
        }


def _one_per_sample(objective):
    """Refuses an objective that is already averaged over the batch."""

    def checked(x):
        values = objective(x)
        if len(values.shape) != 1:
            raise ValueError(
                "The objective of an attack must return one value per sample, "
                "of shape `(batch_size,)`: do not average over the batch. "
                f"Received: objective of shape {tuple(values.shape)}"
            )
        return values

    return checked


def _better(x_new, x_old, objective, succeeded):
    """Returns, per sample, the point that succeeds, or has the higher value."""
    better = objective(x_new) > objective(x_old)
    if succeeded is not None:
        new, old = succeeded(x_new), succeeded(x_old)
        better = ops.where(new == old, better, new)
    better = ops.reshape(better, (-1,) + (1,) * (len(x_new.shape) - 1))
    return ops.where(better, x_new, x_old)


def _check_not_swapped(step_size, epsilon):
    if epsilon == 0.0 or step_size <= epsilon:
        return
    message = (
        "Argument `step_size` is larger than `epsilon`; a step is usually "
        f"`epsilon / 4`. Received: step_size={step_size}, epsilon={epsilon}"
    )
    if step_size > 2 * epsilon:
        raise ValueError(f"{message}. Are the two swapped?")
    warnings.warn(message, stacklevel=3)
