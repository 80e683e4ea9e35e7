"""How far a figure can be trusted: a bootstrap over prompts, in which the rows of one prompt come and go together.

Rows of one prompt resemble each other, so that resampling rows would promise too narrow an interval. A resample is a count for
each prompt, and every figure is computed from counts: for a thousand resamples at once by matrix products, exactly as if the
rows had been repeated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tier4k.heads.metrics.evaluate import METRICS
from tier4k.heads.metrics.logistic import logistic_mapping
from tier4k.heads.metrics.memoize import memoized

RESAMPLES = 1000

AT_ONCE = 200  # resamples whose ranks are computed together: few enough for a processor's cache

ROUNDING = 1e-12  # of a value's size

NO_SPREAD = 1e-12  # variance of a resample over that of all rows which may be rounding


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


def bootstrap_intervals(
    repeats: Sequence[TestRows], seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile interval of the mean over repeats of each figure in `RESAMPLED`.

    Prompts are resampled once for all repeats, so that a prompt that stands in the test part of several repeats is
    not taken for several prompts. What varies between training runs is not in the interval; the standard deviation over repeats shows it.

    Args:
        repeats: Test rows of each repeat.
        seed: Seed of the resampling.
        level: Share of resamples inside.

    Returns:
        {figure: (low, high)}, NaN where a repeat has no figure at all (constant predictions) or a prediction is not finite.
    """
    columns = [
        column
        for rows in _with_numbered_prompts(repeats)
        for column in (rows.group, rows.truth, rows.prediction)
    ]
    return dict(_intervals(seed, level, *columns))


@memoized
def _intervals(seed: int, level: float, *columns: np.ndarray) -> dict[str, tuple[float, float]]:
    """The intervals of repeats whose groups, truths and predictions stand side by side."""
    repeats = [TestRows(*columns[start : start + 3]) for start in range(0, len(columns), 3)]
    return {name: interval(values, level) for name, values in resampled_means(repeats, seed).items()}


def resampled_means(
    repeats: Sequence[TestRows], seed: int = 0, figures: Sequence[str] = METRICS, resamples: int = RESAMPLES
) -> dict[str, np.ndarray]:
    """Mean over repeats (B,) of each of the figures in every one of B resamples; equal prompts and seeds give equal resamples.

    A resample that leaves a repeat without a figure drops out of its mean; all are NaN where a repeat has no figure in any resample.
    """
    if not all(np.isfinite(rows.prediction).all() for rows in repeats):
        return {name: np.full(resamples, np.nan) for name in figures}
    numbered = _with_numbered_prompts(repeats)
    prompts = 1 + max(int(rows.group.max()) for rows in numbered)
    counts = (
        np.random.default_rng(seed)
        .multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
        .astype(float)
    )
    return {
        name: _mean_over_repeats(np.array([_figure(name, counts, rows) for rows in numbered]))
        for name in figures
    }


def _with_numbered_prompts(repeats: Sequence[TestRows]) -> list[TestRows]:
    """The same rows, each distinct prompt being a number from 0, the same in all repeats."""
    groups = np.unique(np.concatenate([rows.group for rows in repeats]))
    return [replace(rows, group=np.searchsorted(groups, rows.group)) for rows in repeats]


def _figure(name: str, counts: np.ndarray, rows: TestRows) -> np.ndarray:
    """A figure (B,) of one repeat, each of whose prompts was drawn so often (B, K).

    The logistic is fitted to all test rows once; fitting it to each resample would cost a thousand fits and add little.
    """
    prediction = (
        logistic_mapping(rows.truth, rows.prediction) if name.endswith("_logistic") else rows.prediction
    )
    here, prompt = np.unique(rows.group, return_inverse=True)
    return RESAMPLED[name](counts[:, here], prompt, rows.truth, prediction)


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


def resampled_plcc(counts: np.ndarray, prompt: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation (B,) of resampled rows.

    Args:
        counts: How often each prompt was drawn in each resample (B, K), and with it each of its rows.
        prompt: Number of the prompt of each row (N,), from 0 to K - 1.
        x, y: Scores of each row (N,).
    """
    if _is_constant(x) or _is_constant(y):
        return np.full(len(counts), np.nan)
    x, y = (
        (values - values.mean()) / values.std() for values in (x, y)
    )  # so that sums of squares lose no digits
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y, xx, yy, xy = (
            _resampled_mean(counts, prompt, values) for values in (x, y, x * x, y * y, x * y)
        )
        spread_x, spread_y = xx - mean_x**2, yy - mean_y**2
        exists = (spread_x > NO_SPREAD) & (spread_y > NO_SPREAD)
        return np.where(exists, (xy - mean_x * mean_y) / np.sqrt(spread_x * spread_y), np.nan)


def resampled_srcc(counts: np.ndarray, prompt: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation (B,) of resampled rows; arguments as for `resampled_plcc`."""
    parts = [counts[start : start + AT_ONCE] for start in range(0, len(counts), AT_ONCE)]
    return np.concatenate([_resampled_srcc(part, prompt, x, y) for part in parts])


def _resampled_srcc(counts: np.ndarray, prompt: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    weights = counts.T[prompt]
    # Deviations of ranks from their mean are multiples of a half, so that every sum here is exact.
    x, y = (resampled_ranks(counts, prompt, values) - (weights.sum(0) + 1) / 2 for values in (x, y))
    weighted = weights * x
    spread = (weighted * x).sum(0) * (weights * y * y).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (weighted * y).sum(0) / np.sqrt(spread), np.nan)


def resampled_ranks(counts: np.ndarray, prompt: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Mean ranks (N, B) of x (N,) among the resampled rows: those below, plus half of the equal ones, plus a half."""
    _, code = np.unique(x, return_inverse=True)
    rows = np.zeros((code.max() + 1, counts.shape[1]))
    np.add.at(rows, (code, prompt), 1)  # rows of a prompt that have one value
    equal = rows @ counts.T
    return (np.cumsum(equal, axis=0) - equal / 2 + 0.5)[code]


def resampled_krcc(counts: np.ndarray, prompt: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b (B,) of resampled rows; arguments as for `resampled_plcc`.

    With S(x)_ij = sign(x_i - x_j), tau-b is sum_ij w_i w_j S(x)_ij S(y)_ij over the root of the same sums of S(x)^2 and S(y)^2. The weight
    w_i is the count of the prompt of i, so that each matrix is first summed over the rows of every two prompts.
    """
    sign_x, sign_y = np.sign(x[:, None] - x), np.sign(y[:, None] - y)
    member = np.zeros((len(x), counts.shape[1]))
    member[np.arange(len(x)), prompt] = 1

    def total(product: np.ndarray) -> np.ndarray:
        return ((counts @ (member.T @ product @ member)) * counts).sum(1)

    with np.errstate(invalid="ignore", divide="ignore"):
        return total(sign_x * sign_y) / np.sqrt(total(sign_x**2) * total(sign_y**2))


def resampled_rmse(counts: np.ndarray, prompt: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Root mean squared difference (B,) of resampled rows; arguments as for `resampled_plcc`."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(_resampled_mean(counts, prompt, (x - y) ** 2))


def _resampled_mean(counts: np.ndarray, prompt: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean (B,) of the values (N,) of resampled rows."""
    prompts = counts.shape[1]
    return (counts @ np.bincount(prompt, values, prompts)) / (counts @ np.bincount(prompt, minlength=prompts))


def _is_constant(values: np.ndarray) -> bool:
    """Whether values (N,) deviate by rounding only."""
    return bool(values.std() <= ROUNDING * np.abs(values).max())


RESAMPLED: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "srcc": resampled_srcc,
    "krcc": resampled_krcc,
    "plcc": resampled_plcc,
    "plcc_logistic": resampled_plcc,
    "rmse": resampled_rmse,
    "rmse_logistic": resampled_rmse,
}
