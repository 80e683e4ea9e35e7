"""Bootstrap intervals of metrics over prompts: the rows of one prompt are drawn together.

Rows of one prompt resemble each other, so that an interval from resampled rows would be too narrow. A
resample is a count for each prompt. Every metric is computed from the counts, for many resamples at once
by matrix products, exactly as if the rows had been repeated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tier4k.heads.metrics.all_metrics import POOLED_METRICS
from tier4k.heads.metrics.correlation import is_constant
from tier4k.heads.metrics.logistic import logistic_mapping
from tier4k.heads.metrics.memoize import memoized
from tier4k.heads.metrics.test_rows import TestRows, columns_of, from_columns

RESAMPLES = 1000

AT_ONCE = 200  # number of resamples whose ranks are computed together in a processor's cache

SMALLEST_VARIANCE = 1e-12  # a smaller variance of a resample, over that of all rows, may be a rounding error

Resampled = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Computes a metric (B,) of counts (B, K), the prompt of each row (N,), and two scores of each row (N,)."""


@dataclass(frozen=True)
class Spread:
    """The spread of a mean over repeats when test prompts are resampled and heads are not refitted.

    Attributes:
        interval: Percentile interval (low, high); NaN where the metric has no value.
        deviation: Standard deviation over the resamples; NaN where the metric has no value.
    """

    interval: tuple[float, float]
    deviation: float


def bootstrap_spreads(
    repeats: Sequence[TestRows],
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Spread]:
    """Return the spread of the mean over repeats of each metric in `POOLED_METRICS`.

    Prompts are resampled once for all repeats, so that a prompt in the test part of several repeats does
    not count as several prompts. No head is fitted again: `tier4k.heads.metrics.recipe` adds the variation of
    the training sets. The interval is the percentile interval (Efron, 1979).

    Args:
        repeats: Test rows of each repeat.
        seed: Seed of the resampling.
        level: Share of resamples in the interval, in (0, 1).

    Returns:
        {metric: spread}; NaN where a repeat has no value in any resample (constant predictions) or a
        prediction is not finite.
    """
    return dict(_spreads(seed, level, *columns_of(_with_numbers(repeats))))


def distinct_prompts(repeats: Sequence[TestRows]) -> int:
    """Return the number of distinct prompts in the test rows of all repeats."""
    return len(np.unique(np.concatenate([rows.group for rows in repeats])))


@memoized
def _spreads(seed: int, level: float, *columns: np.ndarray) -> dict[str, Spread]:
    """Return the spreads; `columns` is what `columns_of` returned."""
    spreads = {}
    for name, values in resampled_means(from_columns(columns), seed).items():
        spreads[name] = spread(values, level)
    return spreads


def resampled_means(
    repeats: Sequence[TestRows],
    seed: int = 0,
    metrics: Sequence[str] = POOLED_METRICS,
    resamples: int = RESAMPLES,
) -> dict[str, np.ndarray]:
    """Return each metric's mean over repeats in every resample; equal prompts and seeds give equal resamples.

    Args:
        repeats: Test rows of each repeat.
        seed: Seed of the resampling.
        metrics: Names from `POOLED_METRICS`.
        resamples: Number B of resamples.

    Returns:
        {metric: (B,)}. Repeats without a value in a resample are left out of its mean.
        All are NaN where a repeat has no value in any resample.
    """
    if not _all_finite(repeats):
        return {name: np.full(resamples, np.nan) for name in metrics}
    numbered = _with_numbers(repeats)
    counts = _prompt_counts(numbered, seed, resamples)
    means = {}
    for name in metrics:
        values = [_resampled_metric(name, counts, rows) for rows in numbered]
        means[name] = _mean_over_repeats(np.array(values))
    return means


def spread(resampled: np.ndarray, level: float = 0.95) -> Spread:
    """Return the spread of resampled values (B,); NaN does not count; all NaN give NaN."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return Spread((float("nan"), float("nan")), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Spread((float(low), float(high)), float(finite.std()))


def _all_finite(repeats: Sequence[TestRows]) -> bool:
    return all(np.isfinite(rows.prediction).all() for rows in repeats)


def _with_numbers(repeats: Sequence[TestRows]) -> list[TestRows]:
    """Replace prompts and generators by numbers from 0, which are the same in all repeats."""
    groups = np.unique(np.concatenate([rows.group for rows in repeats]))
    generators = np.unique(np.concatenate([rows.generator for rows in repeats]))
    numbered = []
    for rows in repeats:
        group = np.searchsorted(groups, rows.group)
        generator = np.searchsorted(generators, rows.generator)
        numbered.append(replace(rows, group=group, generator=generator))
    return numbered


def _prompt_counts(
    numbered: Sequence[TestRows],
    seed: int,
    resamples: int,
) -> np.ndarray:
    """Return counts (B, K): how often each prompt is drawn in each resample."""
    prompts = 1 + max(int(rows.group.max()) for rows in numbered)
    equal = np.full(prompts, 1 / prompts)
    counts = np.random.default_rng(seed).multinomial(prompts, equal, size=resamples)
    return counts.astype(float)


def _resampled_metric(
    name: str,
    counts: np.ndarray,
    rows: TestRows,
) -> np.ndarray:
    """Return a metric (B,) of one repeat, given the counts (B, K) of all prompts.

    The logistic is fitted to all test rows once: a fit for each resample would cost a thousand fits and
    change little.
    """
    prediction = rows.prediction
    if name.endswith("_logistic"):
        prediction = logistic_mapping(rows.truth, prediction)
    own_prompts, prompt = np.unique(rows.group, return_inverse=True)
    return RESAMPLED[name](counts[:, own_prompts], prompt, rows.truth, prediction)


def _mean_over_repeats(values: np.ndarray) -> np.ndarray:
    """Return the mean (B,) of values (R, B) without NaN; all NaN where a repeat has no value at all."""
    exists = np.isfinite(values)
    if not exists.any(axis=1).all():
        return np.full(values.shape[1], np.nan)
    with np.errstate(invalid="ignore"):
        return np.where(exists, values, 0).sum(0) / exists.sum(0)


def resampled_plcc(
    counts: np.ndarray,
    prompt: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> np.ndarray:
    """Return Pearson's correlation of resampled rows.

    Args:
        counts: How often each prompt, and with it each of its rows, is drawn in each resample (B, K).
        prompt: Number of the prompt of each row (N,), from 0 to K - 1.
        x: Scores of each row (N,).
        y: Other scores of each row (N,).

    Returns:
        (B,) in [-1, 1]; NaN where the drawn x or y are constant.
    """
    if is_constant(x) or is_constant(y):
        return np.full(len(counts), np.nan)
    x = _standardized(x)
    y = _standardized(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x = _resampled_mean(counts, prompt, x)
        mean_y = _resampled_mean(counts, prompt, y)
        spread_x = _resampled_mean(counts, prompt, x * x) - mean_x**2
        spread_y = _resampled_mean(counts, prompt, y * y) - mean_y**2
        covariance = _resampled_mean(counts, prompt, x * y) - mean_x * mean_y
        exists = (spread_x > SMALLEST_VARIANCE) & (spread_y > SMALLEST_VARIANCE)
        return np.where(exists, covariance / np.sqrt(spread_x * spread_y), np.nan)


def resampled_srcc(
    counts: np.ndarray,
    prompt: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> np.ndarray:
    """Spearman's correlation (B,) of resampled rows, in [-1, 1]; arguments as for `resampled_plcc`."""
    if is_constant(x) or is_constant(y):
        return np.full(len(counts), np.nan)
    blocks = [counts[start : start + AT_ONCE] for start in range(0, len(counts), AT_ONCE)]
    return np.concatenate([_srcc_at_once(block, prompt, x, y) for block in blocks])


def _srcc_at_once(
    counts: np.ndarray,
    prompt: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> np.ndarray:
    weights = counts.T[prompt]
    # Deviations of ranks from their mean are multiples of a half, so that every sum here is exact.
    mean_rank = (weights.sum(0) + 1) / 2
    rank_x = resampled_ranks(counts, prompt, x) - mean_rank
    rank_y = resampled_ranks(counts, prompt, y) - mean_rank
    weighted = weights * rank_x
    spread = (weighted * rank_x).sum(0) * (weights * rank_y * rank_y).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (weighted * rank_y).sum(0) / np.sqrt(spread), np.nan)


def resampled_ranks(
    counts: np.ndarray,
    prompt: np.ndarray,
    x: np.ndarray,
) -> np.ndarray:
    """Mean ranks (N, B) of x (N,) among the resampled rows; counts and prompt as for `resampled_plcc`.

    A rank is the number of rows below, plus half of the equal rows, plus a half.
    """
    _, code = np.unique(x, return_inverse=True)
    rows = np.zeros((code.max() + 1, counts.shape[1]))
    np.add.at(rows, (code, prompt), 1)  # rows by value and prompt
    equal = rows @ counts.T
    ranks = np.cumsum(equal, axis=0) - equal / 2 + 0.5
    return ranks[code]


def resampled_krcc(
    counts: np.ndarray,
    prompt: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> np.ndarray:
    """Kendall's tau-b (B,) of resampled rows, in [-1, 1]; arguments as for `resampled_plcc`.

    With S(x)_ij = sign(x_i - x_j), tau-b is sum_ij w_i w_j S(x)_ij S(y)_ij over the root of the same sums
    of S(x)^2 and S(y)^2. The weight w_i is the count of the prompt of i, so that each matrix is first
    summed over the rows of every two prompts.
    """
    if is_constant(x) or is_constant(y):
        return np.full(len(counts), np.nan)
    sign_x = np.sign(x[:, None] - x)
    sign_y = np.sign(y[:, None] - y)
    member = np.zeros((len(x), counts.shape[1]))
    member[np.arange(len(x)), prompt] = 1

    def total(product: np.ndarray) -> np.ndarray:
        """Weighted sum (B,) of a matrix (N, N) over all pairs of rows."""
        by_prompts = member.T @ product @ member
        return ((counts @ by_prompts) * counts).sum(1)

    with np.errstate(invalid="ignore", divide="ignore"):
        return total(sign_x * sign_y) / np.sqrt(total(sign_x**2) * total(sign_y**2))


def resampled_rmse(
    counts: np.ndarray,
    prompt: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> np.ndarray:
    """Root mean squared difference (B,) of resampled rows, 0 or more; arguments as for `resampled_plcc`."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(_resampled_mean(counts, prompt, (x - y) ** 2))


def _resampled_mean(
    counts: np.ndarray,
    prompt: np.ndarray,
    values: np.ndarray,
) -> np.ndarray:
    """Mean (B,) of the values (N,) of resampled rows."""
    prompts = counts.shape[1]
    sums = counts @ np.bincount(prompt, values, prompts)
    rows = counts @ np.bincount(prompt, minlength=prompts)
    return sums / rows


def _standardized(values: np.ndarray) -> np.ndarray:
    """Values (N,) of mean 0 and deviation 1, so that sums of their squares lose no digits."""
    return (values - values.mean()) / values.std()


RESAMPLED: dict[str, Resampled] = {
    "srcc": resampled_srcc,
    "krcc": resampled_krcc,
    "plcc": resampled_plcc,
    "plcc_logistic": resampled_plcc,
    "rmse": resampled_rmse,
    "rmse_logistic": resampled_rmse,
}
