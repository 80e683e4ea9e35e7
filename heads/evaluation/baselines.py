"""Metadata baselines: predict scores from the table without any image. They use training scores only."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from tier4k.heads.data.features import FeatureSet

Baseline = Callable[[FeatureSet, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def generator_mean(
    features: FeatureSet,
    scores: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
) -> np.ndarray:
    """Predict the mean training score of the generator; of all training rows if the generator is new.

    Args:
        features: All rows.
        scores: Scores (N,) of all rows for one target.
        train: Indices of the training rows.
        test: Indices (M,) of the rows to predict.

    Returns:
        (M,) predicted scores.
    """
    generator, _ = pd.factorize(features.generator)
    count, mean = _by_key(generator, scores[train], train)
    generator_means = np.where(count > 0, mean, scores[train].mean())
    return generator_means[generator[test]]


def generator_and_prompt(
    features: FeatureSet,
    scores: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
) -> np.ndarray:
    """Predict the mean of the generator plus an effect of the prompt, shrunk towards zero.

    The effect of a prompt with n training rows is n / (n + k) of their mean residual from the generators'
    means, with k the variance within prompts over that between them (the best linear unbiased prediction of a
    random effect; Robinson, Statistical Science 6, 1991). Both are estimated by a one-way analysis of
    variance, as if the generators' means were known: good where prompts cross generators, too small an effect
    where each prompt has one generator. Prompts without training rows have no effect.

    Args:
        features: All rows.
        scores: Scores (N,) of all rows for one target.
        train: Indices of the training rows.
        test: Indices (M,) of the rows to predict.

    Returns:
        (M,) predicted scores.
    """
    baseline = generator_mean(features, scores, train, np.arange(len(features)))
    residual = scores[train] - baseline[train]
    prompt, _ = pd.factorize(features.group)
    count, mean = _by_key(prompt, residual, train)
    prompts = np.count_nonzero(count)
    if not 1 < prompts < len(train):
        return baseline[test]
    deviation = residual - mean[prompt[train]]
    within = float((deviation**2).sum()) / (len(train) - prompts)
    typical_count = (len(train) - float((count**2).sum()) / len(train)) / (prompts - 1)
    mean_square = float((count * mean**2).sum()) / (prompts - 1)
    between = (mean_square - within) / typical_count
    if between <= 0:
        return baseline[test]
    # Where rows of one prompt have equal scores, `within` is 0, and a prompt without training rows would give
    # 0 / 0.
    no_effect = np.zeros_like(mean)
    effect = np.divide(mean * count, count + within / between, out=no_effect, where=count > 0)
    return baseline[test] + effect[prompt[test]]


def sibling_mean(
    features: FeatureSet,
    scores: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
) -> np.ndarray:
    """Predict the mean training score of rows with the same prompt and generator; else the generator's mean.

    This baseline differs from the generator's mean only if images of a test prompt are in training (a leak).

    Args:
        features: All rows.
        scores: Scores (N,) of all rows for one target.
        train: Indices of the training rows.
        test: Indices (M,) of the rows to predict.

    Returns:
        (M,) predicted scores.
    """
    prompt, _ = pd.factorize(features.group)
    generator, generators = pd.factorize(features.generator)
    pair, _ = pd.factorize(prompt * len(generators) + generator)
    count, mean = _by_key(pair, scores[train], train)
    test_pair = pair[test]
    return np.where(count[test_pair] > 0, mean[test_pair], generator_mean(features, scores, train, test))


def _by_key(
    key: np.ndarray,
    values: np.ndarray,
    train: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of K keys the number of training rows (K,) and the mean of their values (K,), or 0.

    Args:
        key: Key of every row (N,), from 0 to K - 1.
        values: Values of the training rows.
        train: Indices of the training rows.
    """
    count = np.bincount(key[train], minlength=key.max() + 1)
    total = np.bincount(key[train], values, minlength=len(count))
    return count, total / np.maximum(count, 1)


BASELINES: dict[str, Baseline] = {
    "generator_mean": generator_mean,
    "generator_and_prompt": generator_and_prompt,
    "sibling_mean": sibling_mean,
}
