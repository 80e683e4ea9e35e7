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


def generator_and_prompt(features: FeatureSet, scores: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The generator's mean plus what the prompt's other pictures were rated above theirs, shrunk towards nothing.

    The effect of a prompt with n training rows is n / (n + k) of their mean residual, with k the variance within prompts over
    that between them (the best linear unbiased prediction of a random effect; Robinson, Statistical Science 6, 1991), both
    estimated by a one-way analysis of variance, as if the generators' means were known (good where prompts cross generators;
    too little effect where each prompt has one generator). Equal to the generator's mean for prompts that training does not
    hold. Arguments as above.
    """
    residual = pd.Series(scores[train] - generator_mean(features, scores, train, train))
    by_prompt = residual.groupby(features.group[train])
    mean, count = by_prompt.mean(), by_prompt.size()
    if not 1 < len(count) < len(train):
        return generator_mean(features, scores, train, test)
    within = float(((residual - by_prompt.transform("mean")) ** 2).sum()) / (len(train) - len(count))
    typical = (len(train) - float((count**2).sum()) / len(train)) / (len(count) - 1)
    between = (float((count * mean**2).sum()) / (len(count) - 1) - within) / typical
    effect = mean * count / (count + within / between) if between > 0 else mean * 0
    return generator_mean(features, scores, train, test) + pd.Series(features.group[test]).map(effect).fillna(0).to_numpy(float)


def sibling_mean(features: FeatureSet, scores: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Mean training score of the rows with the same prompt and generator; the generator's mean where there are none.

    Above the generator's mean only where the split leaks: where pictures of a test prompt are in training. Arguments as above.
    """
    pair = pd.Series(list(zip(features.group, features.generator, strict=True)))
    means = pd.Series(scores[train]).groupby(pair[train].to_numpy()).mean()
    found = pair[test].map(means).to_numpy(float)
    return np.where(np.isnan(found), generator_mean(features, scores, train, test), found)


FLOORS: dict[str, Floor] = {"generator_mean": generator_mean, "generator_and_prompt": generator_and_prompt, "sibling_mean": sibling_mean}
