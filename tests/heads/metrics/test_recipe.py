"""Intervals of a recipe on new prompts: a doubled variance, Student's t, and the coverage that follows."""

import numpy as np
import pytest
from scipy import stats

from tier4k.heads.metrics.recipe import largest_p, recipe_interval, recipe_p


@pytest.mark.parametrize(("fitted", "factor"), [(True, np.sqrt(2)), (False, 1.0)])
def test_the_interval_and_the_p_value_are_those_of_a_t_test(fitted: bool, factor: float) -> None:
    mean, deviation, prompts = 0.06, 0.02, 24
    distribution = stats.t(df=23, loc=0.06, scale=0.02 * factor)
    assert recipe_interval(mean, deviation, prompts, fitted) == pytest.approx(distribution.interval(0.95))
    expected = 2 * stats.t(df=23).cdf(-mean / (deviation * factor))
    assert recipe_p(mean, deviation, prompts, fitted) == pytest.approx(expected)
    assert recipe_p(-mean, deviation, prompts, fitted) == pytest.approx(expected)


def test_the_p_value_is_five_percent_where_the_interval_ends_at_zero() -> None:
    low, high = recipe_interval(0.0, 0.03, 15)
    assert recipe_p(high, 0.03, 15) == pytest.approx(0.05) and low == -high


def test_an_interval_ends_where_the_metric_ends() -> None:
    free, limited = recipe_interval(0.9, 0.1, 9), recipe_interval(0.9, 0.1, 9, limits=(-1.0, 1.0))
    assert free[1] > 1 and limited == (free[0], 1.0)


def test_one_prompt_or_a_missing_value_gives_nothing() -> None:
    assert np.isnan([*recipe_interval(0.5, 0.1, 1), recipe_p(0.5, 0.1, 1)]).all()
    assert np.isnan([*recipe_interval(np.nan, 0.1, 9), *recipe_interval(0.5, np.nan, 9)]).all()
    assert np.isnan([recipe_p(np.nan, 0.1, 9), recipe_p(0.5, np.nan, 9)]).all()
    assert recipe_p(0.0, 0.0, 9) == 1.0 and recipe_p(0.1, 0.0, 9) == 0.0


def test_a_sum_of_equal_test_and_training_effects_is_covered_at_the_nominal_rate() -> None:
    random = np.random.default_rng(0)
    prompts, worlds = 40, 4000
    test = random.normal(size=(worlds, prompts))
    training = random.normal(size=(worlds, prompts))
    covered = 0
    for b, a in zip(test, training, strict=True):
        # The deviation of a mean of b over resampled prompts, whose training effect stays.
        deviation = b.std() / np.sqrt(prompts - 1)
        low, high = recipe_interval(float((a + b).mean()), float(deviation), prompts)
        covered += low <= 0 <= high
    assert 0.94 < covered / worlds < 0.96


def test_two_intervals_bound_the_p_value_of_their_difference_whatever_the_correlation() -> None:
    mean, other, deviation, other_deviation, prompts = 0.8, 0.7, 0.02, 0.03, 30
    low = recipe_interval(mean, deviation, prompts)[0]
    high = recipe_interval(other, other_deviation, prompts)[1]
    bound = largest_p(mean, low, other, high, prompts)
    for correlation in (-1.0, 0.0, 0.9):
        variance = deviation**2 + other_deviation**2 - 2 * correlation * deviation * other_deviation
        assert recipe_p(mean - other, np.sqrt(variance), prompts) <= bound + 1e-12
    assert largest_p(mean, low, low, low, prompts) == pytest.approx(0.05)  # the intervals touch
    assert largest_p(0.5, 0.4, 0.6, 0.7, prompts) == 1.0
    assert largest_p(0.5, -1.0, 0.1, 0.2, prompts, limits=(-1, 1)) == 1.0  # the half is cut
    assert np.isnan(largest_p(np.nan, 0.4, 0.1, 0.2, prompts))
