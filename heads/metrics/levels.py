"""Metrics of the ranking of generators, and of the ranking of the images of one prompt.

SRCC over all rows mixes the two: a predictor that knows only the generator ranks generators well, and one
that knows only the prompt does not rank the images of a prompt at all.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tier4k.heads.metrics.correlation import is_constant
from tier4k.heads.metrics.memoize import memoized
from tier4k.heads.metrics.test_rows import TestRows

SYSTEM_METRICS = ("system_srcc", "system_krcc")

PROMPT_METRICS = ("prompt_srcc", "prompt_pairs")

LEVEL_METRICS = (*SYSTEM_METRICS, *PROMPT_METRICS)

LEAST_GENERATORS = 3

TOO_FEW_GENERATORS = f"fewer than {LEAST_GENERATORS} generators in the test rows"

EQUAL_GENERATORS = "all generators have the same mean"

NO_PAIRS = "no prompt has two test rows with different true scores"

# Reasons for missing values, with what is missing.
LEVEL_REASONS = {
    TOO_FEW_GENERATORS: "no metrics of generators",
    EQUAL_GENERATORS: "no metrics of generators",
    NO_PAIRS: "no metrics within prompts",
}

DIGITS = 12  # values that are equal in so many digits of the largest one differ by rounding errors only

NAN = float("nan")


def level_metrics(rows: TestRows) -> dict[str, float]:
    """Compute every metric in `LEVEL_METRICS` of test rows.

    system_srcc, system_krcc: SRCC and KRCC, over generators, of the mean true score and the mean prediction.
        A mean is over the means of the generator's prompts, so that every prompt has the same weight, however
        many of its images are tested. Where generators were given different prompts, a difference of the
        prompts counts as a difference of the generators. NaN for fewer than 3 generators, and where all means
        are equal.
    prompt_srcc: Mean over prompts of the SRCC within the prompt. Prompts whose true scores are all equal, or
        that have one row, are left out. A prompt whose predictions are all equal counts as 0, the value of a
        random order: if it were left out, a predictor would gain by not ranking difficult prompts.
    prompt_pairs: Pairwise accuracy: of all pairs of rows of the same prompt with different true scores, the
        share whose predictions are in the same order. Equal predictions count as one half.

    Returns:
        Value by metric, in [-1, 1] (prompt_pairs: in [0, 1]). All are NaN where a prediction is not finite;
        `level_nan_reasons` gives the other reasons.
    """
    group, _ = pd.factorize(rows.group)
    generator, _ = pd.factorize(rows.generator)
    return _level_metrics(group, generator, rows.truth, rows.prediction)


def level_nan_reasons(rows: TestRows) -> list[str]:
    """Return why metrics in `LEVEL_METRICS` are NaN although all predictions are finite.

    Where all true scores or all predictions are equal, `nan_reason` gives that reason.
    """
    if not (len(rows.truth) and np.isfinite(rows.prediction).all()):
        return []
    metrics = level_metrics(rows)
    truth_differs = not is_constant(rows.truth)
    reasons = []
    if np.isnan(metrics["system_srcc"]) and truth_differs and not is_constant(rows.prediction):
        too_few = len(pd.unique(rows.generator)) < LEAST_GENERATORS
        reasons.append(TOO_FEW_GENERATORS if too_few else EQUAL_GENERATORS)
    if np.isnan(metrics["prompt_pairs"]) and truth_differs:
        reasons.append(NO_PAIRS)
    return reasons


@memoized
def _level_metrics(
    group: np.ndarray,
    generator: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
) -> dict[str, float]:
    """Return the metrics; groups and generators are numbers from 0."""
    if not (len(truth) and np.isfinite(prediction).all()):
        return dict.fromkeys(LEVEL_METRICS, NAN)
    scores = np.stack([truth, prediction])
    return _system_metrics(group, generator, scores) | _prompt_metrics(group, scores)


def _system_metrics(
    group: np.ndarray,
    generator: np.ndarray,
    scores: np.ndarray,
) -> dict[str, float]:
    """Return the metrics over generators of scores (2, N), true and predicted."""
    means = _without_rounding_errors(_generator_means(group, generator, scores))
    if means.shape[1] < LEAST_GENERATORS:
        return dict.fromkeys(SYSTEM_METRICS, NAN)
    one_group = np.zeros(means.shape[1], int)
    pairs = _compare_pairs(one_group, means)
    truth, prediction = pairs.rank_deviations
    return {
        "system_srcc": _ratio(truth @ prediction, truth @ truth, prediction @ prediction),
        "system_krcc": _ratio(pairs.concordance, pairs.truth_pairs, pairs.prediction_pairs),
    }


def _generator_means(
    group: np.ndarray,
    generator: np.ndarray,
    scores: np.ndarray,
) -> np.ndarray:
    """Return means (2, G) of scores (2, N) over prompts of the means over a prompt's rows of a generator."""
    cell, cells = pd.factorize(generator * (group.max() + 1) + group)
    generator_of_cell = cells // (group.max() + 1)
    rows = np.bincount(cell)
    prompts = np.bincount(generator_of_cell)
    means = []
    for values in scores:
        cell_means = np.bincount(cell, values) / rows
        means.append(np.bincount(generator_of_cell, cell_means) / prompts)
    return np.stack(means)


def _prompt_metrics(group: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Return the metrics within prompts of scores (2, N), true and predicted."""
    order = np.argsort(group, kind="stable")
    group = group[order]
    pairs = _compare_pairs(group, _without_rounding_errors(scores[:, order]))
    if not pairs.truth_pairs:
        return dict.fromkeys(PROMPT_METRICS, NAN)
    truth, prediction = pairs.rank_deviations
    covariance = np.bincount(group, truth * prediction)
    truth_spread = np.bincount(group, truth**2)
    spread = truth_spread * np.bincount(group, prediction**2)
    srcc = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(spread), where=spread > 0)
    return {
        "prompt_srcc": float(srcc[truth_spread > 0].mean()),
        "prompt_pairs": float((1 + pairs.concordance / pairs.truth_pairs) / 2),
    }


@dataclass(frozen=True)
class _Pairs:
    """What a comparison of every two rows of the same group gives, for two scores of each row.

    Attributes:
        rank_deviations: (2, N) twice the mean rank of each row within its group, less the mean of the group.
            The deviation is the sum over the group of the signs of the differences from the row.
        concordance: Number of pairs in the same order in both scores, less that in opposite order.
        truth_pairs, prediction_pairs: Numbers of pairs that differ in the first and in the second score.
    """

    rank_deviations: np.ndarray
    concordance: float
    truth_pairs: float
    prediction_pairs: float


def _compare_pairs(group: np.ndarray, scores: np.ndarray) -> _Pairs:
    """Compare every two rows of the same group in two scores (2, N); the groups are in ascending order.

    Rows are compared with those `lag` places later, for every lag within the largest group: memory stays
    proportional to N also where one group has all rows.
    """
    deviations = np.zeros_like(scores)
    products = np.zeros((2, 2))
    for lag in range(1, np.bincount(group).max()):
        same_group = group[lag:] == group[:-lag]
        signs = np.sign(scores[:, lag:] - scores[:, :-lag]) * same_group
        deviations[:, lag:] += signs
        deviations[:, :-lag] -= signs
        products += signs @ signs.T
    return _Pairs(deviations, products[0, 1], products[0, 0], products[1, 1])


def _without_rounding_errors(scores: np.ndarray) -> np.ndarray:
    """Return scores (2, N) in which values that differ by rounding errors are equal; their unit is lost."""
    largest = np.abs(scores).max(axis=1, keepdims=True)
    return np.round(scores / np.where(largest > 0, largest, 1), DIGITS)


def _ratio(
    product: float,
    first: float,
    second: float,
) -> float:
    """Return a product of deviations over the root of those of each score with itself; NaN for 0 / 0."""
    return float(product / np.sqrt(first * second)) if first > 0 and second > 0 else NAN
