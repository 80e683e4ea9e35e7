"""Scores of several data sets on one scale. This is the only place that maps scores."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split, SplitError, scored_split

OTHER_SCALE = (
    "RMSE needs scores on the scale of the predictions, and test rows are of a data set without training rows"
)


@dataclass(frozen=True)
class ScoredRows:
    """The rows that take part in one target and repeat, and scores on one scale.

    Attributes:
        split: The parts of the rows that have a score for the target.
        scores: (N,) scores of all rows, NaN where a row has none.
        errors: (N,) standard errors of the scores, NaN where they are unknown.
        scale: Name of the data set whose scale the scores have; "" if there is one data set, or no training
            row.
        reason: Why the test rows have scores on another scale than the training rows; "" if they have not.
    """

    split: Split
    scores: np.ndarray
    errors: np.ndarray
    scale: str = ""
    reason: str = ""


def scored_rows(
    features: FeatureSet,
    target: str,
    split: Split,
) -> ScoredRows:
    """Return the rows with a score for a target; the scores of several data sets are aligned.

    A score s of data set k is mapped linearly to the scale of the first data set that has training rows:

        s' = m1 + (sd1 / sdk) (s - mk)

    with the mean m and the standard deviation sd (which divides by n) of the scores of the set's training
    rows, those of the validation part included: heads with and without a validation part then have the same
    scale, and can be compared. A standard error e becomes (sd1 / sdk) e. No score of a test row has a part in
    the map. The scores of a data set without training rows stay as they are, and so do those of a single one.

    Args:
        features: All rows with their scores.
        target: Name of the target.
        split: The parts of the rows in one repeat.

    Raises:
        SplitError: Too few rows have a score (see `scored_split`), or all training rows of one of several
            data sets have equal scores.
    """
    scores = features.scores(target)
    errors = features.errors(target)
    own_split = scored_split(split, scores, target)
    names = pd.unique(features.dataset)
    if len(names) == 1:
        return ScoredRows(own_split, scores, errors)
    training = own_split.outside_test
    scales = {}
    for name in names:
        own = scores[training[features.dataset[training] == name]]
        if len(own):
            scales[name] = _Scale.of(own, f"{target} of {name}, split with seed {split.seed}")
    first = next(iter(scales), "")
    scores, errors = scores.copy(), errors.copy()
    for name, scale in scales.items():
        if name != first:
            rows = features.dataset == name
            slope = scales[first].deviation / scale.deviation
            scores[rows] = scales[first].mean + slope * (scores[rows] - scale.mean)
            errors[rows] = slope * errors[rows]
    without = [name for name in pd.unique(features.dataset[own_split.test]) if name not in scales]
    return ScoredRows(own_split, scores, errors, first, OTHER_SCALE if without else "")


@dataclass(frozen=True)
class _Scale:
    """Mean and standard deviation of training scores."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, scores: np.ndarray, where: str) -> "_Scale":
        """Return the scale of scores (n,)."""
        if len(np.unique(scores)) < 2:
            raise SplitError(
                f"{where}: all training rows ({len(scores)}) have the score {scores[0]:g}, and data sets are "
                "aligned by at least 2 different scores: leave this data set out, or use another --split"
            )
        return cls(float(scores.mean()), float(scores.std()))
