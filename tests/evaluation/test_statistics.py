"""Intervals and paired tests against SciPy and published figures."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from keras_adaad.evaluation.statistics import mcnemar
from keras_adaad.evaluation.statistics import median_difference_interval
from keras_adaad.evaluation.statistics import wilson_interval

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "successes, trials, low, high",
    [(52, 100, 42.3, 61.5), (5200, 10000, 51.0, 53.0)],
)
def test_wilson_interval_of_the_usual_sizes(successes, trials, low, high):
    interval = 100 * np.array(wilson_interval(successes, trials))
    np.testing.assert_allclose(interval, (low, high), atol=0.05)


@settings(max_examples=200, deadline=None)
@given(
    trials=st.integers(1, 10000),
    share=st.floats(0.0, 1.0),
    confidence=st.floats(0.01, 0.999),
)
def test_wilson_interval_is_that_of_scipy(trials, share, confidence):
    successes = round(share * trials)
    interval = wilson_interval(successes, trials, confidence)
    expected = binomtest(successes, trials).proportion_ci(confidence, "wilson")
    np.testing.assert_allclose(interval, expected, atol=1e-9)
    assert 0.0 <= interval[0] <= successes / trials <= interval[1] <= 1.0


@pytest.mark.parametrize("trials", [1, 3, 7, 100, 9999])
def test_wilson_interval_reaches_the_ends_exactly(trials):
    assert wilson_interval(0, trials)[0] == 0.0
    assert wilson_interval(trials, trials)[1] == 1.0
    assert 0.0 < wilson_interval(0, trials)[1] < 1.0


@pytest.mark.parametrize("arguments", [(0, 0), (-1, 10), (11, 10)])
def test_wilson_interval_refuses_impossible_counts(arguments):
    with pytest.raises(ValueError, match=rf"successes={arguments[0]}, trials"):
        wilson_interval(*arguments)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, float("nan")])
def test_wilson_interval_refuses_impossible_confidence(confidence):
    with pytest.raises(ValueError, match="`confidence`"):
        wilson_interval(5, 10, confidence)


def pair(both, only_a, only_b, neither):
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return np.array(a), np.array(b)


@settings(max_examples=100, deadline=None)
@given(
    both=st.integers(0, 50),
    only_a=st.integers(0, 400),
    only_b=st.integers(0, 400),
    neither=st.integers(1, 50),
)
def test_mcnemar_is_the_binomial_test(both, only_a, only_b, neither):
    result = mcnemar(*pair(both, only_a, only_b, neither))
    assert (result.only_a, result.only_b) == (only_a, only_b)
    if only_a + only_b:
        expected = binomtest(only_a, only_a + only_b).pvalue
        assert result.p_value == pytest.approx(expected, rel=1e-9)
    else:
        assert result.p_value == 1.0


def test_mcnemar_by_hand():
    # 2 * (1 + 5) / 2 ** 5.
    assert mcnemar(*pair(3, 4, 1, 2)).p_value == 0.375
    assert mcnemar(*pair(3, 1, 4, 2)) == (1, 4, 0.375)
    assert mcnemar(*pair(0, 2, 2, 0)).p_value == 1.0


@pytest.mark.parametrize("only_a", [5000, 4800, 4000])
def test_mcnemar_of_ten_thousand(only_a):
    a, b = pair(0, only_a, 10000 - only_a, 0)
    expected = binomtest(only_a, 10000).pvalue
    assert mcnemar(a, b).p_value == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    "a, b",
    [
        ([True, False], [True]),
        ([1, 0], [1, 1]),
        ([[True]], [[True]]),
    ],
)
def test_mcnemar_refuses_what_is_not_paired_booleans(a, b):
    with pytest.raises(ValueError, match="boolean arrays of the same shape"):
        mcnemar(a, b)


# The difference of medians.


def test_interval_of_a_median_difference_is_that_of_scipy():
    generator = np.random.default_rng(0)
    a = generator.exponential(1.0, 200)
    b = a + generator.normal(0.3, 0.2, 200)
    expected = scipy.stats.bootstrap(
        (a, b),
        lambda a, b, axis: np.median(a, axis) - np.median(b, axis),
        paired=True,
        method="percentile",
        n_resamples=2000,
        rng=1,
    ).confidence_interval
    found = median_difference_interval(a, b)
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_infinite_values_have_an_interval():
    """Fewer than half of them, and as many in both."""
    a = np.r_[np.arange(80.0), np.full(20, np.inf)]
    assert median_difference_interval(a + 1.0, a) == (1.0, 1.0)
    never = np.full(100, np.inf)
    assert np.isnan(median_difference_interval(never, never)).all()
