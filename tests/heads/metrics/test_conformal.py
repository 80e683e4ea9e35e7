"""Conformal intervals cover images of new prompts, and are infinite where there are too few prompts."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tier4k.heads.metrics.conformal import LEVEL, Interval, coverage, half_width
from tier4k.heads.metrics.test_rows import TestRows
from tier4k.heads.regressors.ridge import RidgeHead


def residual_rows(group: np.ndarray, residual: np.ndarray) -> TestRows:
    return TestRows(group, np.zeros(len(group)), residual, np.zeros(len(residual)))


def prompts(random: np.random.Generator, count: int) -> TestRows:
    """Rows of prompts of 1 to 8 images; an error that the rows of a prompt share outweighs their own."""
    group = np.repeat(np.arange(count), random.integers(1, 9, count))
    return residual_rows(group, 2 * random.normal(size=count)[group] + random.normal(size=len(group)))


def test_the_coverage_holds_for_a_new_prompt_whose_rows_share_their_error() -> None:
    random = np.random.default_rng(0)
    covered = [coverage(prompts(random, 1), half_width(prompts(random, 19))) for _ in range(3000)]
    # With 19 prompts the coverage is at most 1 / 20 above the level.
    assert LEVEL - 0.012 < np.mean(covered) < LEVEL + 0.03


def test_rows_of_their_own_prompt_give_the_usual_split_conformal_quantile() -> None:
    residuals = np.random.default_rng(1).normal(size=99)
    expected = np.sort(np.abs(residuals))[int(np.ceil(0.9 * 100)) - 1]
    assert half_width(residual_rows(np.arange(99), residuals)) == expected


def test_a_prompt_counts_once_however_many_rows_it_has() -> None:
    residuals = np.random.default_rng(2).normal(size=30)
    group = np.arange(30)
    often = np.repeat(group, np.where(group == 4, 50, 1))
    assert half_width(residual_rows(often, residuals[often])) == half_width(residual_rows(group, residuals))
    assert coverage(residual_rows(often, residuals[often]), 0.5) == pytest.approx(
        np.mean(np.abs(residuals) <= 0.5)
    )


def test_too_few_prompts_have_an_infinite_interval() -> None:
    few, enough = (residual_rows(np.arange(count), np.ones(count)) for count in (8, 9))
    assert half_width(few) == float("inf")
    assert half_width(enough) == 1.0
    interval = Interval.of([few, enough], [enough, enough])
    assert interval.coverage == pytest.approx((1.0, 1.0))


def test_held_out_predictions_of_ridge_equal_fits_without_the_group() -> None:
    random = np.random.default_rng(3)
    for width in (4, 60):  # both forms of the decomposition
        X, groups = random.normal(size=(40, width)), np.repeat(np.arange(10), 4)
        y = X[:, 0] + random.normal(size=40)
        head = RidgeHead(penalties=(0.3,)).fit(X, y, groups=groups)
        scaled = (X - X.mean(0)) / np.maximum(X.std(0), 0.1 * np.median(X.std(0)))
        for group in range(10):
            inside = groups == group
            without = Ridge(alpha=0.3 * width).fit(scaled[~inside], y[~inside])
            np.testing.assert_allclose(head.held_out_[inside], without.predict(scaled[inside]), atol=1e-8)
