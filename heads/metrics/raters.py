"""The raters' ceiling: how well a perfect predictor would correlate with scores that raters determined."""

import numpy as np

from tier4k.extract.datasets.ratings import reliability
from tier4k.heads.metrics.all_metrics import METRICS

RATERS = "raters"  # the name of the ceiling beside selections and baselines

NO_CEILING = "the raters' ceiling exists for SRCC and PLCC only"

UNKNOWN = "fewer than 2 test rows with different scores whose ratings are known"


def raters_ceiling(scores: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """Return the values that a predictor of the true opinions would have, by metric in `METRICS`.

    The predictor knows the mean opinion of infinitely many such raters. Its correlation with the mean of a
    few is the root of the reliability of the scores (attenuation; Spearman, American Journal of Psychology
    15, 1904). Its SRCC is 6 / pi asin(PLCC / 2), which holds for normally distributed scores and errors
    (Pearson, Drapers' Company Research Memoirs, Biometric Series 4, 1907).

    Args:
        scores: True scores of the test rows (N,).
        errors: Their standard errors (N,), NaN where they are unknown.

    Returns:
        srcc and plcc in [0, 1], 0 for scores that vary no more than their errors; all other metrics are NaN,
        and these too where the reliability is unknown.
    """
    plcc = np.sqrt(np.maximum(reliability(scores, errors), 0))
    ceiling = {"srcc": float(6 / np.pi * np.arcsin(plcc / 2)), "plcc": float(plcc)}
    return dict.fromkeys(METRICS, float("nan")) | ceiling


def ceiling_nan_reasons(ceiling: dict[str, float]) -> str:
    """Return why metrics of a ceiling are NaN."""
    return f"{NO_CEILING}; {UNKNOWN}" if np.isnan(ceiling["plcc"]) else NO_CEILING
