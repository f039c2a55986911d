"""Intervals for an accuracy, and a test of the gap between two."""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from keras_adaad._typing import ArrayLike


def wilson_interval(
    successes: int, trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Computes the Wilson score interval of a proportion.

    Unlike `share +- 2 * deviation`, it stays within `[0, 1]` and does not
    shrink to a point when all trials have the same outcome.

    Args:
        successes: Number of trials that succeeded.
        trials: Number of trials, at least 1.
        confidence: Probability with which the interval should cover the true
            proportion. Defaults to `0.95`.

    Returns:
        The pair `(low, high)`, fractions.

    Raises:
        ValueError: If there is no trial, or an argument is out of range.

    Example:

    ```python
    wilson_interval(52, 100)  # (0.423, 0.615)
    ```
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            "Arguments must be `0 <= successes <= trials` with at least one "
            f"trial. Received: successes={successes}, trials={trials}"
        )
    if not 0.0 < confidence < 1.0:
        raise ValueError(
            "Argument `confidence` must be between 0 and 1, e.g. 0.95. "
            f"Received: confidence={confidence}"
        )
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    share = successes / trials
    scale = 1.0 + z**2 / trials
    center = (share + z**2 / (2.0 * trials)) / scale
    variance = share * (1.0 - share) / trials + z**2 / (4.0 * trials**2)
    margin = z * math.sqrt(variance) / scale
    # At 0 and 1 the bound is the share itself, which rounding would miss.
    low = 0.0 if successes == 0 else center - margin
    high = 1.0 if successes == trials else center + margin
    return low, high


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities of logits, over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def median_difference_interval(
    a: np.ndarray, b: np.ndarray
) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of `median(a) - median(b)`.

    `a` and `b` are values for the same samples. Each of 1,000 repetitions draws
    as many samples with replacement, the same in every call. Values may be
    infinite. The bounds are NaN if a difference is not defined.
    """
    generator = np.random.default_rng(0)
    differences = np.empty(1000)
    with np.errstate(invalid="ignore"):
        for i in range(len(differences)):
            rows = generator.integers(len(a), size=len(a))
            differences[i] = np.median(a[rows]) - np.median(b[rows])
    # No interpolation, which infinity does not allow.
    low, high = np.quantile(differences, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


class McNemar(NamedTuple):
    """The result of `mcnemar`."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar(a: ArrayLike, b: ArrayLike) -> "McNemar":
    """Runs the exact two-sided McNemar test on paired outcomes.

    Samples that both get right, or both get wrong, do not show which is
    better. If the two are equally good, each other sample is a fair coin flip.

    Args:
        a: Booleans of shape `(num_samples,)`: which samples are right.
        b: The same for the other model, on the same samples.

    Returns:
        The named tuple `(only_a, only_b, p_value)`. The first two count the
        samples that only `a` or only `b` gets right. `p_value` is the
        probability of a split at least this uneven if the two are equally good.

    Raises:
        ValueError: If `a` and `b` are not booleans of equal length.

    Example:

    ```python
    mcnemar([True, True, False], [True, False, False]).p_value  # 1.0
    ```
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != bool or b.dtype != bool or a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            "Arguments `a` and `b` must be boolean arrays of the same shape "
            "`(num_samples,)`, e.g. `predictions == labels`. "
            f"Received: {a.dtype} of shape {a.shape} and "
            f"{b.dtype} of shape {b.shape}"
        )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    trials = only_a + only_b
    # Integers, because a float overflows at 1030 coin flips.
    ways = tail = 1
    for k in range(min(only_a, only_b)):
        ways = ways * (trials - k) // (k + 1)
        tail += ways
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**trials))
