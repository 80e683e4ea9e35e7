"""Metadata baselines: means of generators and prompts, learned from the training rows alone."""

from dataclasses import replace

import numpy as np
import pytest

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import make_splits
from tier4k.heads.evaluation.baselines import BASELINES, generator_and_prompt, generator_mean, sibling_mean
from tier4k.tests.builders.feature_sets import feature_set


def test_baselines_never_look_at_test_scores_and_siblings_help_only_where_the_split_leaks() -> None:
    f = feature_set()
    split = make_splits(f, "prompt", 1, seed=0)[0]
    scores = f.targets[:, 0]
    changed = scores.copy()
    changed[split.test] = 99
    train = np.concatenate([split.train, split.validation])
    for baseline in BASELINES.values():
        np.testing.assert_array_equal(
            baseline(f, scores, train, split.test), baseline(f, changed, train, split.test)
        )
    for baseline in (sibling_mean, generator_and_prompt):
        np.testing.assert_array_equal(
            baseline(f, scores, train, split.test), generator_mean(f, scores, train, split.test)
        )


def rated(prompt_effect: float, noise: float, rows: int = 1200) -> tuple[FeatureSet, np.ndarray, np.ndarray]:
    """Scores = generator + prompt + noise; the last of the four images of each prompt is to be predicted."""
    f, random = feature_set(rows), np.random.default_rng(0)
    _, generator = np.unique(f.generator, return_inverse=True)
    _, prompt = np.unique(f.group, return_inverse=True)
    scores = generator + prompt_effect * random.normal(size=rows)[prompt] + noise * random.normal(size=rows)
    return f, scores, np.arange(rows) % 4 == 3


@pytest.mark.parametrize(("prompt_effect", "noise"), [(1.0, 1.0), (1.0, 0.01), (0.5, 1.0)])
def test_the_effect_of_a_prompt_is_shrunk_as_its_variance_says(prompt_effect: float, noise: float) -> None:
    f, scores, is_test = rated(prompt_effect, noise)
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    base = generator_mean(f, scores, train, np.arange(len(f)))
    residual = (scores - base)[train].reshape(-1, 3).mean(1)  # the rows of a prompt are neighbours
    known = residual * prompt_effect**2 / (prompt_effect**2 + noise**2 / 3)  # with the true variances
    found = generator_and_prompt(f, scores, train, test) - base[test]
    np.testing.assert_allclose(found, known, atol=0.1 * np.abs(known).max())
    assert np.std(scores[test] - base[test] - found) < np.std(scores[test] - base[test])


def test_prompts_without_an_effect_are_given_hardly_any() -> None:
    f, scores, is_test = rated(0.0, 1.0)
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    found = generator_and_prompt(f, scores, train, test) - generator_mean(f, scores, train, test)
    assert np.abs(found).max() < 0.2


def test_a_prompt_that_training_does_not_hold_has_no_effect_where_every_prompt_has_one_score() -> None:
    f = replace(feature_set(24), generator=np.full(24, "g0", dtype=object))
    train, test = np.arange(16), np.arange(12, 24)
    found = generator_and_prompt(f, np.repeat(np.arange(6.0), 4), train, test)
    np.testing.assert_allclose(
        found, np.repeat([3.0, 1.5, 1.5], 4)
    )  # one prompt as in training, two as the generator
