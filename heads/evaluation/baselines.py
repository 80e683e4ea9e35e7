"""Metadata floors: what a look-up in the table reaches without a single pixel. Fitted on training rows only."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from tier4k.heads.data.features import FeatureSet

Floor = Callable[[FeatureSet, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def generator_mean(
    features: FeatureSet, scores: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Mean training score of each test row's generator; of all training rows where the generator is new.

    Args:
        features: The rows.
        scores: One target of all rows (N,).
        train: Row numbers to learn from.
        test: Row numbers to predict (M,).

    Returns:
        (M,) scores.
    """
    generator, _ = pd.factorize(features.generator)
    count, mean = _by_key(generator, scores[train], train)
    return np.where(count > 0, mean, scores[train].mean())[generator[test]]


def generator_and_prompt(
    features: FeatureSet, scores: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """The generator's mean plus what the prompt's other pictures were rated above theirs, shrunk towards nothing.

    The effect of a prompt with n training rows is n / (n + k) of their mean residual, with k the variance within prompts over
    that between them (the best linear unbiased prediction of a random effect; Robinson, Statistical Science 6, 1991), both
    estimated by a one-way analysis of variance, as if the generators' means were known (good where prompts cross generators;
    too little effect where each prompt has one generator). Equal to the generator's mean for prompts that training does not
    hold. Arguments as above.
    """
    floor = generator_mean(features, scores, train, np.arange(len(features)))
    residual = scores[train] - floor[train]
    prompt, _ = pd.factorize(features.group)
    count, mean = _by_key(prompt, residual, train)
    prompts = np.count_nonzero(count)
    if not 1 < prompts < len(train):
        return floor[test]
    within = float(((residual - mean[prompt[train]]) ** 2).sum()) / (len(train) - prompts)
    typical = (len(train) - float((count**2).sum()) / len(train)) / (prompts - 1)
    between = (float((count * mean**2).sum()) / (prompts - 1) - within) / typical
    if between <= 0:
        return floor[test]
    # A prompt that training does not hold has no effect, also where rows of one prompt have equal scores (within is 0).
    effect = np.divide(mean * count, count + within / between, out=np.zeros_like(mean), where=count > 0)
    return floor[test] + effect[prompt[test]]


def sibling_mean(features: FeatureSet, scores: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Mean training score of the rows with the same prompt and generator; the generator's mean where there are none.

    Above the generator's mean only where the split leaks: where pictures of a test prompt are in training. Arguments as above.
    """
    (prompt, _), (generator, generators) = pd.factorize(features.group), pd.factorize(features.generator)
    pair, _ = pd.factorize(prompt * len(generators) + generator)
    count, mean = _by_key(pair, scores[train], train)
    return np.where(count[pair[test]] > 0, mean[pair[test]], generator_mean(features, scores, train, test))


def _by_key(key: np.ndarray, values: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many training rows have each of K keys (K,), and the mean of their values (K,), 0 where there are none.

    Args:
        key: Key of every row (N,), from 0 to K - 1.
        values: Of the training rows.
        train: Their row numbers.
    """
    count = np.bincount(key[train], minlength=key.max() + 1)
    return count, np.bincount(key[train], values, minlength=len(count)) / np.maximum(count, 1)


BASELINES: dict[str, Floor] = {
    "generator_mean": generator_mean,
    "generator_and_prompt": generator_and_prompt,
    "sibling_mean": sibling_mean,
}
