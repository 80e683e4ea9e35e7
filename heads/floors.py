"""Metadata floors: what a look-up in the table reaches without a single pixel. Fitted on training rows only."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from heads.features import FeatureSet

Floor = Callable[[FeatureSet, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def generator_mean(features: FeatureSet, scores: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Mean training score of each test row's generator; of all training rows where the generator is new.

    Args:
        features: The rows.
        scores: One target of all rows (N,).
        train: Row numbers to learn from.
        test: Row numbers to predict (M,).

    Returns:
        (M,) scores.
    """
    means = pd.Series(scores[train]).groupby(features.generator[train]).mean()
    return pd.Series(features.generator[test]).map(means).fillna(scores[train].mean()).to_numpy()


def sibling_mean(features: FeatureSet, scores: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Mean training score of the rows with the same prompt and generator; the generator's mean where there are none.

    Above the generator's mean only where the split leaks: where pictures of a test prompt are in training. Arguments as above.
    """
    pair = pd.Series(list(zip(features.group, features.generator, strict=True)))
    means = pd.Series(scores[train]).groupby(pair[train].to_numpy()).mean()
    found = pair[test].map(means).to_numpy(float)
    return np.where(np.isnan(found), generator_mean(features, scores, train, test), found)


FLOORS: dict[str, Floor] = {"generator_mean": generator_mean, "sibling_mean": sibling_mean}
