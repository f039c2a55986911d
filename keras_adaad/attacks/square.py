"""Square attack: random search without gradients (Andriushchenko et al.)."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaad import checks
from keras_adaad._typing import Objective
from keras_adaad._typing import Tensor
from keras_adaad._typing import Tensors
from keras_adaad.attacks.iterative import IterativeAttack
from keras_adaad.attacks.iterative import per_image
from keras_adaad.attacks.norms import NORMS

# Queries per round: images that are fooled leave the search between rounds.
ROUND = 100


@keras.saving.register_keras_serializable(package="keras_adaad")
class Square(IterativeAttack):
    """Random search on the margin loss over square windows.

    Each query changes one window of the best image so far, at a random place.
    The change is kept if the margin grows. Windows shrink during the search.
    For L-infinity, the window moves by `2 * epsilon`, up or down per channel,
    and is projected. For L2, the window takes over the mass of a second one.

    Square uses no gradient, so hidden gradients do not stop it. If it beats
    attacks that use gradients, those failed. It can also attack a model
    without gradients: `attack(function, x, y)` takes any function from NumPy
    images to logits, such as an exported file on its runtime.

    Args:
        queries: Number of queries. Defaults to `5000`.
        p_init: Fraction of the image that the first windows cover. It is
            halved after 10 queries, and again after 50, 200, 500, 1000, 2000,
            4000, 6000 and 8000. Defaults to `0.8`.
        restarts: See `keras_adaad.attacks.IterativeAttack`.
        epsilon, norm, input_range, seed: See `keras_adaad.attacks.Attack`.

    Example:

    ```python
    x_adv = keras_adaad.attacks.Square(epsilon=8 / 255)(model, x_test, y_test)
    ```

    Attack the file that a device runs:

    ```python
    deployed = keras_adaad.export.load_exported("student.tflite")
    attack = keras_adaad.attacks.Square(epsilon=8 / 255, queries=1000)
    x_adv = attack(deployed, x_test, y_test)
    ```

    Reference:
        - [Andriushchenko et al., 2020](https://arxiv.org/abs/1912.00049),
          algorithms 1 to 3; `square.py` of AutoAttack, which does not rescale
          the schedule of windows to the number of queries.
    """

    not_compiled: tuple[str, ...] = (
        "epsilon",
        "restarts",
        "seed",
        "queries",
        "p_init",
    )
    needs_gradient = False

    def __init__(
        self,
        *,
        epsilon: float,
        norm: str = "linf",
        queries: int = 5000,
        restarts: int = 1,
        p_init: float = 0.8,
        input_range: tuple[float, float] = (0.0, 1.0),
        seed: int | None = None,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            norm=norm,
            restarts=restarts,
            loss="margin",
            input_range=input_range,
            seed=seed,
        )
        self.queries = checks.check_integer("queries", queries)
        self.p_init = checks.check_number(
            "p_init", p_init, maximum=1.0, open_minimum=True
        )

    def _rounds(self, num_classes):
        return self.restarts * self._rounds_per_restart

    @property
    def _rounds_per_restart(self):
        return math.ceil(self.queries / ROUND)

    def _start(self, x, x_last, rng, round_, noise=None):
        restart, part = divmod(round_, self._rounds_per_restart)
        if part:
            start = x_last - x
        elif noise is not None:
            start = noise[restart]
        elif self.norm == "linf":
            start = self._stripes(x.shape, rng)
        else:
            start = self._grid(x.shape, rng)
        if self.norm == "linf":
            return start
        # The sign of each query's window, by image and channel.
        channels = _sizes(x.shape[1:])[-1]
        return {"start": start, "signs": _signs(rng, (len(x), ROUND, channels))}

    def settings(
        self, shape: tuple[int, ...], seed: int, round_: int = 0
    ) -> Iterator[dict[str, Any]]:
        height, width, channels = _sizes(shape)
        generator = np.random.default_rng([seed, round_])
        first = round_ % self._rounds_per_restart * ROUND
        for query in range(first, min(first + ROUND, self.queries)):
            share = self.p_init * window_share(query)
            side = round(math.sqrt(share * height * width))
            if self.norm == "l2":
                # Odd, and wide enough for a pattern.
                side = max(side, 3) + (max(side, 3) % 2 == 0)
            side = min(max(side, 1), height, width)
            # As in the reference, the last place is never drawn.
            places = generator.random(4) * (2 * [height - side, width - side])
            row, column, row_2, column_2 = places.astype("int32")
            setting = {
                "epsilon": self.epsilon,
                "window": _window(shape, row, column, side),
            }
            if self.norm == "linf":
                signs = generator.choice([-1.0, 1.0], (1, 1, channels))
                setting["signs"] = _as_images(signs[None], shape)[0].astype(
                    "float32"
                )
            else:
                tile = np.zeros((height, width), "float32")
                tile[row : row + side, column : column + side] = pattern(
                    side, generator
                )
                setting["tile"] = _as_images(tile[None, ..., None], shape)[0]
                setting["source"] = _window(shape, row_2, column_2, side)
                setting["query"] = np.int32(query - first)
            yield setting

    def begin(
        self,
        objective: Objective,
        x: Tensor,
        noise: Any,
        setting: dict[str, Any],
    ) -> Tensors:
        state = {}
        if self.norm == "l2":
            noise, state["signs"] = noise["start"], noise["signs"]
        x_adv = self._clip(x + noise)
        values, fooled = objective(x_adv)
        return {**state, "x_adv": x_adv, "value": values, "fooled": fooled}

    def step(
        self,
        objective: Objective,
        x: Tensor,
        state: Tensors,
        setting: dict[str, Any],
    ) -> Tensors:
        change = self._paint if self.norm == "linf" else self._move_mass
        x_new = self._clip(change(x, state, setting))
        values, fooled = objective(x_new)
        # Images no longer change once fooled. The published code counts a
        # margin of 0 as fooled. But int8 logits often tie, and the predicted
        # class of a tie can be the right one.
        better = ops.logical_or(values > state["value"], fooled)
        better = ops.logical_and(better, ops.logical_not(state["fooled"]))
        return {
            **state,
            "x_adv": ops.where(per_image(better, x), x_new, state["x_adv"]),
            "value": ops.where(better, values, state["value"]),
            "fooled": ops.logical_or(state["fooled"], fooled),
        }

    def _paint(self, x, state, setting):
        epsilon = setting["epsilon"]
        paint = 2.0 * epsilon * setting["signs"] * setting["window"]
        return NORMS["linf"].project(state["x_adv"] + paint, x, epsilon)

    def _move_mass(self, x, state, setting):
        epsilon, norm = setting["epsilon"], NORMS["l2"]
        window, source = setting["window"], setting["source"]
        delta = state["x_adv"] - x
        spare = ops.maximum(epsilon**2 - ops.square(norm.size(delta)), 0.0)
        mass = _length(delta * ops.maximum(window, source))
        length = ops.sqrt(spare / _sizes(x.shape[1:])[-1] + ops.square(mass))

        signs = ops.take(state["signs"], setting["query"], axis=1)
        signs = _channels(signs, x)
        shape = setting["tile"] * signs
        shape += delta * window / (1e-12 + _length(delta * window))
        shape *= length / (1e-12 + _length(shape))
        delta = delta * (1.0 - source) * (1.0 - window) + shape * window
        return x + epsilon * norm.direction(delta)

    def _stripes(self, shape, rng):
        """Returns a start of vertical stripes of epsilon or -epsilon."""
        height, width, channels = _sizes(shape[1:])
        stripes = _signs(rng, (shape[0], 1, width, channels))
        return self.epsilon * _as_images(
            np.repeat(stripes, height, axis=1), shape[1:]
        )

    def _grid(self, shape, rng):
        """Returns a start of five by five tiles, of norm epsilon."""
        height, width, channels = _sizes(shape[1:])
        # All images share the patterns of the tiles, but not the signs.
        generator = np.random.default_rng(0)
        side = max(height // 5, 1)
        begin = max((height - 5 * side) // 2, 0)
        grid = np.zeros((shape[0], height, width, channels), "float32")
        for row in range(begin, begin + height // side * side, side):
            for column in range(begin, begin + width // side * side, side):
                place = grid[:, row : row + side, column : column + side]
                tile = pattern(side, generator)[..., None]
                tile = tile[: place.shape[1], : place.shape[2]]
                place += tile * _signs(rng, (shape[0], 1, 1, channels))
        sizes = np.sqrt((grid**2).sum((1, 2, 3), keepdims=True))
        return _as_images(self.epsilon * grid / (sizes + 1e-12), shape[1:])


def window_share(query):
    """Returns the factor of `p_init` at a query, counted from 0."""
    ends = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
    return 0.5 ** sum(query > end for end in ends)


def pattern(side, generator):
    """Returns the pattern of an L2 window: two opposite bumps, of norm 1."""
    half = side // 2
    tile = np.concatenate([_bump(half, side), -_bump(side - half, side)])
    tile /= np.sqrt((tile**2).sum())
    return (tile.T if generator.random() > 0.5 else tile).astype("float32")


def _bump(height, width):
    """Returns a bump of norm 1, a sum of nested squares of 1, 1/4, 1/9, ..."""
    layers = max(height, width) // 2 + 1
    rows, columns = np.ogrid[:height, :width]
    ring = np.maximum(abs(rows - height // 2), abs(columns - width // 2))
    steps = 1.0 / np.arange(1, layers + 1) ** 2
    heights = steps[::-1].cumsum()[::-1]
    bump = heights[np.minimum(ring, layers - 1)] * (ring < layers)
    return bump / np.sqrt((bump**2).sum()) if bump.size else bump


def _window(shape, row, column, side):
    height, width, _ = _sizes(shape)
    window = np.zeros((1, height, width, 1), "float32")
    window[:, row : row + side, column : column + side] = 1.0
    return _as_images(window, shape)[0]


def _signs(rng, shape):
    return np.where(rng.uniform(shape) < 0.0, -1.0, 1.0).astype("float32")


def _length(delta):
    """Returns the length of each channel of each image."""
    axes = (1, 2) if _channels_last(delta.shape[1:]) else (2, 3)
    return ops.sqrt(ops.sum(ops.square(delta), axis=axes, keepdims=True))


def _sizes(shape):
    """Returns height, width and channels of an image."""
    if len(shape) != 3:
        raise ValueError(
            "Square needs images with the axes height, width and channels. "
            f"Received: images of shape {tuple(shape)}"
        )
    if _channels_last(shape):
        return tuple(shape)
    return (*shape[1:], shape[0])


def _channels(values, x):
    """Reshapes values of shape `(batch_size, channels)` to broadcast."""
    one = (1, 1)
    shape = values.shape
    if _channels_last(x.shape[1:]):
        return ops.reshape(values, (-1, *one, shape[-1]))
    return ops.reshape(values, (-1, shape[-1], *one))


def _as_images(array, shape):
    """Moves the axes of a channels-last array to those of the images."""
    return array if _channels_last(shape) else np.moveaxis(array, -1, 1)


def _channels_last(shape):
    """Whether the channels are the last axis of an image.

    A model may have another order than Keras's default. Windows across the
    wrong axes would make a weak attack, so the shape decides: channels are 1 or
    3. Where it does not tell, the default is taken.
    """
    first, _, last = (size in (1, 3) for size in shape)
    if first != last:
        return last
    return keras.config.image_data_format() == "channels_last"
