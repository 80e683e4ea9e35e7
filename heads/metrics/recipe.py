"""Intervals and p-values of a recipe on new prompts, from a bootstrap over test prompts.

The estimand is the metric that is expected when the head is fitted on a new training set of this size and
tested on infinitely many new prompts of the same generators.

A bootstrap over test prompts holds the fitted heads fixed, so it misses the variation of the training sets.
A prompt enters the mean over repeats twice: in some repeats as a test prompt, in others as a training
prompt. To first order the mean is mu + sum_i (b_i + a_i) / K over K prompts (von Mises, Annals of
Mathematical Statistics 18, 1947), and the bootstrap estimates the variance of the sum of the b_i alone. The
training prompts are assumed to contribute as much variance as the test prompts, so the variance is doubled.
That is an assumption, not a theorem: `benchmarks/interval_coverage.py` simulates the coverage, and that of
the corrected resampled t-test (Nadeau & Bengio, Machine Learning 52, 2003), whose intervals are wider for few
repeats.
"""

import numpy as np
from scipy.stats import t as student

FITTED_VARIANCE = 2.0  # variance of the mean for new training sets and prompts, over that of the bootstrap

FEWEST_PROMPTS = 10  # with fewer test prompts in a repeat an interval is rough


def recipe_interval(
    mean: float,
    deviation: float,
    prompts: int,
    fitted: bool = True,
    limits: tuple[float, float] = (-np.inf, np.inf),
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the interval of the expected metric on new prompts: mean ± t * standard error, within limits.

    Args:
        mean: Mean of the metric over the repeats, or a difference of two such means.
        deviation: Standard deviation of that mean over resamples of the test prompts.
        prompts: Number of distinct test prompts; Student's t has one degree of freedom less.
        fitted: Whether a head was fitted; without a fit there is no training set that varies.
        limits: Smallest and largest value that the metric can have.
        level: Nominal coverage in (0, 1).

    Returns:
        (low, high); NaN with fewer than two prompts or where the mean or the deviation is NaN.
    """
    if prompts < 2 or not np.isfinite([mean, deviation]).all():
        return float("nan"), float("nan")
    reach = float(student.ppf((1 + level) / 2, prompts - 1)) * standard_error(deviation, fitted)
    return max(mean - reach, limits[0]), min(mean + reach, limits[1])


def recipe_p(
    difference: float,
    deviation: float,
    prompts: int,
    fitted: bool = True,
) -> float:
    """Return the two-sided p-value in [0, 1] of no difference of two recipes on new prompts.

    Args:
        difference: Difference of the means of two runs.
        deviation: Standard deviation of the difference over resamples of the test prompts.
        prompts: Number of distinct test prompts.
        fitted: Whether a head was fitted in one of the runs.

    Returns:
        1 for equal runs; NaN with fewer than two prompts or where the difference or the deviation is NaN.
    """
    if prompts < 2 or not np.isfinite([difference, deviation]).all():
        return float("nan")
    if difference == 0:
        return 1.0
    if deviation == 0:
        return 0.0
    return 2 * float(student.sf(abs(difference) / standard_error(deviation, fitted), prompts - 1))


def standard_error(deviation: float, fitted: bool) -> float:
    """Return the standard error for new prompts, given the deviation over resamples of the test prompts."""
    return deviation * float(np.sqrt(FITTED_VARIANCE if fitted else 1.0))


def largest_p(
    mean: float,
    low: float,
    other_mean: float,
    other_high: float,
    prompts: int,
    limits: tuple[float, float] = (-np.inf, np.inf),
    level: float = 0.95,
) -> float:
    """Return the largest p-value that two intervals allow for "no difference" of a mean above another.

    The standard error of a difference is at most the sum of both standard errors, whatever the correlation of
    the means is. Each standard error is that of the half of its interval that faces the other mean.

    Args:
        mean: The higher mean.
        low: Lower end of its interval, as `recipe_interval` returns it.
        other_mean: The lower mean.
        other_high: Upper end of its interval.
        prompts: Number of distinct test prompts of both intervals.
        limits: Smallest and largest value that the metric can have, as given to `recipe_interval`.
        level: Level of both intervals.

    Returns:
        The two-sided p-value in [0, 1]; 1 where a facing end was cut at a limit, so that its half is too
        short; NaN with fewer than two prompts or where a value is NaN.
    """
    if prompts < 2 or not np.isfinite([mean, low, other_mean, other_high]).all():
        return float("nan")
    if mean <= other_mean or low <= limits[0] or other_high >= limits[1]:
        return 1.0
    reach = (mean - low) + (other_high - other_mean)
    if reach <= 0:
        return 0.0
    quantile = float(student.ppf((1 + level) / 2, prompts - 1))
    return 2 * float(student.sf((mean - other_mean) / reach * quantile, prompts - 1))
