"""The threat model of an evaluation."""

import dataclasses
import math
from typing import Self

import numpy as np

from keras_adaad import checks


@dataclasses.dataclass(frozen=True)
class ThreatModel:
    """A ball around each image, within the range of the pixels.

    `print` shows the ball in words.

    Args:
        epsilon: Radius of the ball, in the units of the model's input.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
        input_range: Pair `(low, high)` of the values a pixel can have.
            Defaults to `(0.0, 1.0)`.

    Raises:
        TypeError: If `epsilon` is not a number or `input_range` is not a pair
            of numbers.
        ValueError: If a value is out of range.
    """

    epsilon: float
    norm: str = "linf"
    input_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        checked = {
            "epsilon": checks.check_number("epsilon", self.epsilon),
            "norm": checks.check_choice("norm", self.norm, ("linf", "l2")),
            "input_range": checks.check_input_range(self.input_range),
        }
        # The dataclass is frozen.
        vars(self).update(checked)

    @classmethod
    def of(
        cls,
        epsilon: float | None,
        norm: str = "linf",
        input_range: tuple[float, float] = (0.0, 1.0),
    ) -> Self:
        """Returns the threat model, with the usual radius if none is given.

        Args:
            epsilon: Radius, or `None` for 8/255 of `input_range`.
            norm, input_range: See the class.

        Raises:
            ValueError: If there is no usual radius, as for `"l2"`.
        """
        if epsilon is not None:
            return cls(epsilon, norm, input_range)
        if norm == "l2":
            raise ValueError(
                "Argument `epsilon` must be given for `norm='l2'`, whose "
                "radius depends on the number of pixels. For CIFAR in [0, 1] "
                f"it is usually 0.5. Received: epsilon={epsilon}"
            )
        low, high = checks.check_input_range(input_range)
        return cls(8 / 255 * (high - low), norm, (low, high))

    def sizes(self, delta: np.ndarray) -> np.ndarray:
        """Returns the norm of each perturbation, a float64 array."""
        flat = np.abs(delta.reshape(len(delta), -1).astype("float64"))
        if self.norm == "linf":
            return flat.max(1)
        return np.linalg.norm(flat, axis=1)

    def contains(self, x_adv: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Returns which points lie in the ball and the range, in float64."""
        axes = tuple(range(1, x.ndim))
        low, high = self.input_range
        slack = 1e-6 * (high - low)
        sizes = self.sizes(x_adv.astype("float64") - x)
        return (
            (sizes <= self.epsilon * (1 + 1e-5) + slack)
            & (x_adv >= np.minimum(low, x) - slack).all(axes)
            & (x_adv <= np.maximum(high, x) + slack).all(axes)
        )

    def half_range(self, dimensions: int) -> float:
        """Returns the radius that reaches half across the input range.

        At this radius every image can be made gray, so the accuracy must be
        about 0.

        Args:
            dimensions: Number of values in an image.
        """
        low, high = self.input_range
        per_axis = 0.5 * (high - low)
        if self.norm == "linf":
            return per_axis
        return per_axis * math.sqrt(dimensions)

    def __str__(self) -> str:
        low, high = self.input_range
        # Also shows the radius in 255ths, if it is a whole number of them.
        steps = 255 * self.epsilon / (high - low)
        nearest = round(steps)
        epsilon = f"{self.epsilon:.4g}"
        if 0 < nearest < 255 and math.isclose(steps, nearest, rel_tol=1e-5):
            of_range = "" if high - low == 1 else " of the range"
            epsilon = f"{epsilon} ({nearest}/255{of_range})"
        return f"epsilon {epsilon}, {self.norm}"
