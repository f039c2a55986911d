"""Projected gradient ascent (Madry et al., ICLR 2018)."""

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad._typing import RNG
from keras_adaad._typing import Loss
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks.attack import class_indices
from keras_adaad.attacks.iterative import LOSSES
from keras_adaad.attacks.norms import NORMS
from keras_adaad.attacks.objective import ObjectiveAttack
from keras_adaad.attacks.randomness import GraphRNG
from keras_adaad.checks.data import to_numpy
from keras_adaad.losses import binary_cross_entropy_from_logits


@keras.saving.register_keras_serializable(package="keras_adaad")
class PGD(ObjectiveAttack):
    """Projected gradient ascent in an L-infinity or L2 ball.

    From a start `x + noise`, each step moves `step_size` along the steepest
    ascent direction of the norm, projects onto the ball around `x`, and clips
    to the input range:

        x' <- clip(project(x' + step_size * direction(grad objective(x'))))

    `attack(model, x, y)` attacks classifiers, and models with other outputs:

    | outputs | `loss` | labels `y` |
    |---|---|---|
    | a class for each pixel: logits `(batch_size, height, width, num_classes)` | `"cross_entropy"`, the mean over pixels | class indices `(batch_size, height, width)`, or one-hot |
    | several labels: logits `(batch_size, num_labels)` | `"binary_cross_entropy"`, the mean over labels | 0 or 1, of the shape of the logits |
    | any other tensor | a function `loss(labels, outputs)` | any numbers, with one entry per image |

    A model with these other outputs is never counted as fooled, so several
    restarts keep the point with the highest loss. Outputs of shape
    `(batch_size, k)`, with `k` of 2 or more, are always the logits of one class
    per image, unless the loss is `"binary_cross_entropy"`. For other targets,
    give the outputs another axis: `keras.layers.Reshape((k, 1))`.

    Args:
        step_size: Length of a step, in the units of `epsilon`. Defaults to
            `epsilon / 4`, the usual 2/255 for an epsilon of 8/255.
        steps: Number of steps. Defaults to `10`.
        start: `"uniform"` for a uniform point of the ball, `"normal"` for
            Gaussian noise per pixel, `None` to start at `x`. Defaults to
            `"uniform"`.
        start_scale: Standard deviation of the `"normal"` start, in the units
            of the model's input. Defaults to `0.001`.
        clip_start: Whether the start is clipped to the input range before the
            first gradient. The reference code of AdaAD does not clip it.
            Defaults to `True`.
        loss: See `keras_adaad.attacks.IterativeAttack`, or
            `"binary_cross_entropy"` for images with several labels.
        restarts: See `keras_adaad.attacks.IterativeAttack`.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.

    Raises:
        ValueError: If an argument is out of range, `step_size` is 0 although
            `epsilon` is not, or `step_size` is more than `2 * epsilon` (the
            two are probably swapped).

    Example:

    ```python
    pgd20 = keras_adaad.attacks.PGD(
        epsilon=8 / 255, step_size=2 / 255, steps=20, restarts=5, seed=0
    )
    x_adv = pgd20(model, x_test, y_test)
    ```

    Reference:
        - [Madry et al., 2018](https://arxiv.org/abs/1706.06083)
    """  # noqa: E501  (a table)

    not_compiled: tuple[str, ...] = (
        "epsilon",
        "restarts",
        "seed",
        "step_size",
        "steps",
        "start",
        "start_scale",
    )
    _losses: dict[str, Loss] = {
        **LOSSES,
        "binary_cross_entropy": binary_cross_entropy_from_logits,
    }

    def __init__(
        self,
        *,
        epsilon: float,
        step_size: float | None = None,
        steps: int = 10,
        norm: str = "linf",
        start: str | None = "uniform",
        start_scale: float = 0.001,
        clip_start: bool = True,
        restarts: int = 1,
        loss: str | Loss = "cross_entropy",
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
        if step_size is None:
            step_size = self.epsilon / 4
        self.step_size = checks.check_number("step_size", step_size)
        _check_step_size(self.step_size, self.epsilon)
        self.steps = checks.check_integer("steps", steps)
        self.start = checks.check_choice(
            "start", start, ("uniform", "normal", None)
        )
        self.start_scale = checks.check_number("start_scale", start_scale)
        self.clip_start = bool(clip_start)

    def settings(
        self, shape: tuple[int, ...], seed: int, round_: int = 0
    ) -> list[dict[str, Any]]:
        return self.steps * [
            {"epsilon": self.epsilon, "step_size": self.step_size}
        ]

    def start_noise(
        self, shape: tuple[int, ...], rng: RNG, round_: int = 0
    ) -> Tensor | None:
        if self.start is None:
            return None
        if self.start == "normal":
            return self.start_scale * rng.normal(shape)
        return NORMS[self.norm].uniform(shape, self.epsilon, rng)

    def _starts_in_ball(self):
        return self.start == "uniform"

    def begin(
        self,
        objective: Objective,
        x: Tensor,
        noise: Tensor | None,
        setting: dict[str, Any],
    ) -> Tensors:
        if noise is None:
            return {"x_adv": x}
        return {
            "x_adv": self._clip(x + noise) if self.clip_start else x + noise
        }

    def step(
        self,
        objective: Objective,
        x: Tensor,
        state: Tensors,
        setting: dict[str, Any],
    ) -> Tensors:
        x_adv = state["x_adv"]
        _, _, gradient = backend.value_and_input_gradient(objective, x_adv)
        return {"x_adv": self._move(x, x_adv, gradient, setting)}

    def _maximize_with_state(self, objective, x, state, noise=None, seed=None):
        """Searches as `maximize` does, and updates a state in each step.

        `objective(x_adv, state)` returns one value per sample and the next
        state, a list of tensors. The last state is returned too.
        """
        self._check_usable()
        if noise is None:
            rng = GraphRNG(self.seed if seed is None else seed)
            noise = self.start_noise(ops.shape(x), rng)
        elif len(noise.shape) > len(x.shape):
            noise = noise[0]
        setting = self.settings(x.shape[1:], 0)[0]

        def step(search):
            x_adv, state = search
            _, state, gradient = backend.value_and_input_gradient(
                lambda x_adv: objective(x_adv, state), x_adv
            )
            return [self._move(x, x_adv, gradient, setting), state]

        start = self.begin(objective, x, noise, setting)["x_adv"]
        return backend.repeat(self.steps, step, [start, state])

    def _is_classification(self, outputs):
        """Whether outputs of this shape are logits of one class per image."""
        return self.loss != "binary_cross_entropy" and checks.is_classifier(
            tuple(outputs)
        )

    def _fooled(self, labels, logits):
        if self._is_classification(logits.shape):
            return super()._fooled(labels, logits)
        return ops.zeros(ops.shape(logits)[:1], dtype="bool")

    def _check_labels(self, y, outputs):
        if self._is_classification(outputs):
            if callable(self.loss):
                _check_one_class(y, outputs)
            return super()._check_labels(y, outputs)
        if self.loss == "binary_cross_entropy":
            return checks.check_targets("y", y, outputs).astype("float32")
        if callable(self.loss):
            y = checks.check_numbers("y", y, outputs[0])
            whole = y.dtype.kind != "f" and np.abs(y).max(initial=0) < 2**31
            return y.astype("int32" if whole else "float32")
        if self.loss == "cross_entropy" and checks.is_classifier(outputs[-2:]):
            return class_indices(y, outputs)
        raise ValueError(
            f"The loss {self.loss!r} of {type(self).__name__} does not fit the "
            "outputs of the model. Use `PGD` or `FGSM`: for a class at each "
            'pixel with `loss="cross_entropy"`, for labels of 0 or 1 with '
            '`loss="binary_cross_entropy"`, and for any other outputs with a '
            "function `loss(labels, outputs)` that returns one value per "
            f"sample. Received: outputs of shape {outputs}"
        )

    def _check_classes(self, num_classes):
        super()._check_classes(num_classes)
        if self.loss == "binary_cross_entropy":
            raise ValueError(
                'The loss "binary_cross_entropy" is for images with several '
                "labels, and an evaluation counts images of one class as right "
                'or wrong. Use `loss="cross_entropy"` here. For several labels '
                "call `attack(model, x, y)`, and compute your own metric on "
                f"the images that it returns. Received: {self!r}"
            )

    def _move(self, x, x_adv, gradient, setting):
        norm = NORMS[self.norm]
        x_adv = x_adv + setting["step_size"] * norm.direction(gradient)
        return self._clip(norm.project(x_adv, x, setting["epsilon"]))


def _check_one_class(y, outputs):
    """Raises for targets of the logits' shape that are not one-hot."""
    y = to_numpy(y)
    if y.shape != outputs:
        return
    if not (np.isin(y, (0, 1)).all() and (y.sum(-1) == 1).all()):
        raise ValueError(
            "Argument `y` must hold class indices or one-hot labels: outputs "
            f"of shape {outputs} are the logits of one class per image. For "
            "other targets, give the outputs another axis: "
            f"`keras.layers.Reshape(({outputs[-1]}, 1))`. "
            f"Received: y with the first row {y[0]}"
        )


def _check_step_size(step_size, epsilon):
    if step_size == 0.0 < epsilon:
        raise ValueError(
            "Argument `step_size` is 0, so no step would move an image. Leave "
            "it out for `epsilon / 4`. "
            f"Received: step_size={step_size}, epsilon={epsilon}"
        )
    if epsilon == 0.0 or step_size <= epsilon:
        return
    message = (
        "Argument `step_size` is larger than `epsilon`; a step is usually "
        f"`epsilon / 4`. Received: step_size={step_size}, epsilon={epsilon}"
    )
    if step_size > 2 * epsilon:
        raise ValueError(f"{message}. Are the two swapped?")
    warnings.warn(message, stacklevel=3)
