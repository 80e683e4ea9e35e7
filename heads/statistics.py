"""How far a figure can be trusted: a bootstrap over prompts, in which the rows of one prompt come and go together.

Rows of one prompt resemble each other, so that resampling rows would promise too narrow an interval. A resample is a count for
each prompt, hence a weight for each row, and every figure is computed from weights: for a thousand resamples at once
by matrix products, exactly as if the rows had been repeated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from heads.metrics import METRICS, logistic_mapping

RESAMPLES = 1000
AT_ONCE = 1000  # resamples whose weights are in memory together


@dataclass(frozen=True)
class TestRows:
    """The test rows of one repeat.

    Attributes:
        group: Prompt of each row (N,).
        truth: Scores (N,).
        prediction: Predictions (N,).
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    group: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray

    @cached_property
    def mapped(self) -> np.ndarray:
        """Predictions after the 4-parameter logistic, (N,).

        The mapping is fitted to all test rows once; fitting it to each resample would cost a thousand fits and add little.
        """
        return logistic_mapping(self.truth, self.prediction)


def bootstrap_intervals(repeats: Sequence[TestRows], seed: int = 0, level: float = 0.95) -> dict[str, tuple[float, float]]:
    """Percentile interval of the mean over repeats of each figure in `WEIGHTED`.

    Prompts are resampled once for all repeats, so that a prompt that stands in the test part of several repeats is
    not taken for several prompts. What varies between training runs is not in the interval; the standard deviation over repeats shows it.

    Args:
        repeats: Test rows of each repeat.
        seed: Seed of the resampling.
        level: Share of resamples inside.

    Returns:
        {figure: (low, high)}, NaN where a repeat has no figure at all (constant predictions) or a prediction is not finite.
    """
    return {name: interval(values, level) for name, values in resampled_means(repeats, seed).items()}


def resampled_means(
    repeats: Sequence[TestRows], seed: int = 0, figures: Sequence[str] = METRICS, resamples: int = RESAMPLES
) -> dict[str, np.ndarray]:
    """Mean over repeats (B,) of each of the figures in every one of B resamples; equal prompts and seeds give equal resamples.

    A resample that leaves a repeat without a figure drops out of its mean; all are NaN where a repeat has no figure in any resample.
    """
    if not all(np.isfinite(rows.prediction).all() for rows in repeats):
        return {name: np.full(resamples, np.nan) for name in figures}
    groups = np.unique(np.concatenate([rows.group for rows in repeats]))
    counts = np.random.default_rng(seed).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=resamples)
    values: dict[str, list[np.ndarray]] = {name: [] for name in figures}
    for rows in repeats:
        drawn = counts[:, np.searchsorted(groups, rows.group)]
        for name in figures:
            parts = [_figure(name, drawn[start : start + AT_ONCE], rows) for start in range(0, resamples, AT_ONCE)]
            values[name].append(np.concatenate(parts))
    return {name: _mean_over_repeats(np.array(all_repeats)) for name, all_repeats in values.items()}


def _figure(name: str, drawn: np.ndarray, rows: TestRows) -> np.ndarray:
    """A figure (B,) of rows that were drawn so often (B, N)."""
    return WEIGHTED[name](drawn.astype(float), rows.truth, rows.mapped if name.endswith("_logistic") else rows.prediction)


def _mean_over_repeats(values: np.ndarray) -> np.ndarray:
    exists = np.isfinite(values)
    if not exists.any(axis=1).all():
        return np.full(values.shape[1], np.nan)
    with np.errstate(invalid="ignore"):
        return np.where(exists, values, 0).sum(0) / exists.sum(0)


def interval(resampled: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of resampled figures (B,); NaN where none exists."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def weighted_plcc(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation (B,) of x and y (N,), each row repeated as often as weights (B, N) say."""
    return _correlation(weights, np.broadcast_to(x, weights.shape), np.broadcast_to(y, weights.shape))


def weighted_srcc(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation (B,) of x and y (N,), each row repeated as often as weights (B, N) say."""
    return _correlation(weights, weighted_ranks(weights, x), weighted_ranks(weights, y))


def weighted_ranks(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Mean ranks (B, N) of x (N,) among the repeated rows: those below, plus half of the equal ones, plus a half."""
    _, code = np.unique(x, return_inverse=True)
    member = np.zeros((len(x), code.max() + 1))
    member[np.arange(len(x)), code] = 1
    equal = weights @ member
    return (np.cumsum(equal, axis=1) - equal / 2 + 0.5)[:, code]


def weighted_krcc(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b (B,) of x and y (N,), each row repeated as often as weights (B, N) say.

    With S(x)_ij = sign(x_i - x_j), tau-b is sum_ij w_i w_j S(x)_ij S(y)_ij over the root of the same sums of S(x)^2 and S(y)^2.
    """
    sign_x, sign_y = np.sign(x[:, None] - x), np.sign(y[:, None] - y)

    def total(product: np.ndarray) -> np.ndarray:
        return ((weights @ product) * weights).sum(1)

    with np.errstate(invalid="ignore", divide="ignore"):
        return total(sign_x * sign_y) / np.sqrt(total(sign_x**2) * total(sign_y**2))


def weighted_rmse(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Root mean squared difference (B,) of x and y (N,), each row repeated as often as weights (B, N) say."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(weights @ (x - y) ** 2 / weights.sum(1))


def _correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation of rows of x and y, all (B, N)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = weights / weights.sum(1, keepdims=True)
        size = np.abs(x).max(1), np.abs(y).max(1)
        x = x - (share * x).sum(1, keepdims=True)
        y = y - (share * y).sum(1, keepdims=True)
        spread = np.sqrt((share * x * x).sum(1)), np.sqrt((share * y * y).sum(1))
        # A constant input leaves only rounding noise as its deviation, and has no correlation.
        exists = (spread[0] > 1e-12 * size[0]) & (spread[1] > 1e-12 * size[1])
        return np.where(exists, (share * x * y).sum(1) / (spread[0] * spread[1]), np.nan)


WEIGHTED: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "srcc": weighted_srcc,
    "krcc": weighted_krcc,
    "plcc": weighted_plcc,
    "plcc_logistic": weighted_plcc,
    "rmse": weighted_rmse,
    "rmse_logistic": weighted_rmse,
}
