"""The bootstrap over prompts is exact on repeated rows, and wider where rows of a prompt are similar."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ConstantInputWarning, kendalltau, pearsonr, rankdata, spearmanr

from tier4k.heads.metrics.all_metrics import POOLED_METRICS, evaluate
from tier4k.heads.metrics.bootstrap import (
    bootstrap_spreads,
    resampled_krcc,
    resampled_plcc,
    resampled_ranks,
    resampled_rmse,
    resampled_srcc,
)
from tier4k.heads.metrics.test_rows import TestRows

Metric = Callable[[np.ndarray, np.ndarray], float]
Resampled = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def intervals_of(repeats: list[TestRows], **options: float) -> dict[str, tuple[float, float]]:
    """The percentile intervals of all metrics."""
    return {name: spread.interval for name, spread in bootstrap_spreads(repeats, **options).items()}


def scores(count: int) -> st.SearchStrategy[np.ndarray]:
    """Scores on a coarse scale, so that many are equal."""
    return arrays(float, count, elements=st.integers(-6, 6).map(lambda number: number / 4))


@st.composite
def resamples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Counts (3, K) of prompts that draw two rows or more, prompt (N,) and two scores (N,) of each row."""
    count = draw(st.integers(2, 14))
    prompt = draw(arrays(int, count, elements=st.integers(0, 4)))
    drawn = arrays(int, (3, 5), elements=st.integers(0, 3)).filter(
        lambda counts: counts[:, prompt].sum(1).min() >= 2
    )
    return draw(drawn), prompt, draw(scores(count)), draw(scores(count))


def root_mean_square(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(x - y) / np.sqrt(len(x)))


@pytest.mark.parametrize(
    ("resampled", "metric"),
    [
        (resampled_srcc, lambda x, y: spearmanr(x, y).statistic),
        (resampled_krcc, lambda x, y: kendalltau(x, y).statistic),
        (resampled_plcc, lambda x, y: pearsonr(x, y).statistic),
        (resampled_rmse, root_mean_square),
    ],
    ids=["srcc", "krcc", "plcc", "rmse"],
)
@settings(deadline=None, max_examples=60)
@given(data=resamples())
def test_drawing_a_prompt_twice_equals_repeating_its_rows(
    resampled: Resampled, metric: Metric, data: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
) -> None:
    counts, prompt, x, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        expected = [metric(np.repeat(x, times), np.repeat(y, times)) for times in counts[:, prompt]]
    np.testing.assert_allclose(resampled(counts.astype(float), prompt, x, y), expected, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(data=resamples())
def test_ranks_are_those_of_the_repeated_rows(
    data: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    counts, prompt, x, _ = data
    for times, ranks in zip(
        counts[:, prompt], resampled_ranks(counts.astype(float), prompt, x).T, strict=True
    ):
        np.testing.assert_allclose(np.repeat(ranks, times), rankdata(np.repeat(x, times)))


def clustered(
    random: np.random.Generator, prompts: int, rows: int, shared: float, between: float, within: float
) -> TestRows:
    """Standard normal truth and prediction, of whose variance `shared` is the prompt's.

    Their correlation is `between` in what rows of one prompt share and `within` in the rest.
    """

    def pairs(count: int, correlation: float) -> np.ndarray:
        return random.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], count)

    group = np.repeat(np.arange(prompts), rows)
    values = np.sqrt(shared) * pairs(prompts, between)[group] + np.sqrt(1 - shared) * pairs(
        prompts * rows, within
    )
    return TestRows(group, group % 3, values[:, 0], values[:, 1])


def as_own_prompts(rows: TestRows) -> TestRows:
    """The same rows, each a prompt of its own: a bootstrap over rows."""
    return replace(rows, group=np.arange(len(rows.truth)))


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_intervals_cover_the_true_correlation_of_clustered_data() -> None:
    random, trials, correlation = np.random.default_rng(0), 80, 0.8 * 0.7 + 0.2 * 0.2
    true = {
        "plcc": correlation,
        "srcc": 6 / np.pi * np.arcsin(correlation / 2),
        "krcc": 2 / np.pi * np.arcsin(correlation),
        "rmse": np.sqrt(2 - 2 * correlation),
    }
    inside = dict.fromkeys(true, 0)
    for _ in range(trials):
        intervals = intervals_of([clustered(random, 40, 3, 0.8, 0.7, 0.2)])
        for name, value in true.items():
            inside[name] += intervals[name][0] <= value <= intervals[name][1]
    for name, count in inside.items():
        assert 0.87 <= count / trials <= 0.99, name


def test_intervals_are_wider_than_over_rows_where_rows_of_a_prompt_resemble_each_other() -> None:
    random = np.random.default_rng(1)
    for _ in range(3):
        rows = clustered(random, 20, 8, 0.9, 0.6, 0.6)
        by_prompt = intervals_of([rows])
        by_row = intervals_of([as_own_prompts(rows)])
        for name in ("srcc", "krcc", "plcc", "rmse"):
            assert width(by_prompt[name]) > 1.5 * width(by_row[name])


def test_intervals_are_those_of_a_bootstrap_over_rows_where_rows_are_independent() -> None:
    rows = clustered(np.random.default_rng(2), 300, 2, 0.0, 0.0, 0.6)
    by_prompt = intervals_of([rows])
    by_row = intervals_of([as_own_prompts(rows)])
    for name in ("srcc", "plcc", "rmse"):
        assert width(by_prompt[name]) == pytest.approx(width(by_row[name]), rel=0.25)


def test_repeats_on_the_same_rows_do_not_narrow_an_interval() -> None:
    rows = clustered(np.random.default_rng(3), 15, 4, 0.5, 0.7, 0.7)
    once, thrice = intervals_of([rows]), intervals_of([rows] * 3)
    for name in POOLED_METRICS:
        assert thrice[name] == pytest.approx(once[name])


def test_the_order_of_rows_does_not_matter() -> None:
    rows = clustered(np.random.default_rng(4), 15, 4, 0.5, 0.7, 0.7)
    order = np.random.default_rng(5).permutation(60)
    other = TestRows(*(column[order] for column in vars(rows).values()))
    here, there = intervals_of([rows]), intervals_of([other])
    for name in POOLED_METRICS:
        assert here[name] == pytest.approx(there[name], abs=1e-9)


def test_the_interval_of_a_single_prompt_has_no_width() -> None:
    rows = clustered(np.random.default_rng(6), 1, 30, 0.0, 0.7, 0.7)
    values = evaluate(rows.truth, rows.prediction)
    intervals = intervals_of([rows])
    assert set(intervals) == set(POOLED_METRICS)
    for name, (low, high) in intervals.items():
        assert low == high == pytest.approx(values[name])


def test_a_lower_level_gives_an_interval_inside() -> None:
    rows = clustered(np.random.default_rng(7), 30, 3, 0.5, 0.5, 0.5)
    wide, narrow = intervals_of([rows]), intervals_of([rows], level=0.5)
    for name in POOLED_METRICS:
        assert wide[name][0] < narrow[name][0] < narrow[name][1] < wide[name][1]


def test_equal_seeds_give_equal_intervals() -> None:
    rows = clustered(np.random.default_rng(8), 20, 3, 0.5, 0.5, 0.5)
    assert intervals_of([rows], seed=1) == intervals_of([rows], seed=1) != intervals_of([rows], seed=2)


@pytest.mark.parametrize("rounding", [0.0, 1e-14])
@pytest.mark.parametrize("constant", [0.0, 1 / 3, 4.5])
def test_constant_predictions_have_an_error_but_no_correlation(constant: float, rounding: float) -> None:
    random = np.random.default_rng(9)
    group = np.repeat(np.arange(10), 3)
    sound = TestRows(group, group % 3, random.uniform(0, 5, 30), random.uniform(0, 5, 30))
    equal = replace(sound, prediction=constant * (1 + rounding * np.arange(30)))
    intervals = intervals_of([sound, equal])
    for name in ("srcc", "krcc", "plcc", "plcc_logistic", "rmse_logistic"):
        assert np.isnan(intervals[name]).all()
    assert 0 < intervals["rmse"][0] < intervals["rmse"][1]


def test_a_resample_without_a_value_is_left_out() -> None:
    # Resamples of a single prompt are constant.
    group = np.array([0, 0, 1, 1])
    rows = TestRows(group, group, np.array([1.0, 1, 2, 2]), np.array([1.0, 1, 3, 3]))
    assert intervals_of([rows])["srcc"] == pytest.approx((1, 1))


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("prediction", [57.3, np.inf])
def test_a_prediction_without_a_correlation_has_no_interval_on_any_scale(
    scale: float, prediction: float
) -> None:
    random = np.random.default_rng(0)
    predictions = (
        np.full(60, prediction) if np.isfinite(prediction) else np.r_[np.inf, random.uniform(0, 5, 59)]
    )
    group = np.repeat(np.arange(20), 3)
    found = intervals_of([TestRows(group, group % 3, random.uniform(0, scale, 60), predictions)])
    assert all(np.isnan(found[name]).all() for name in ("srcc", "krcc", "plcc"))
