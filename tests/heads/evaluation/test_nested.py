"""What a repeat chooses does not depend on its test rows, so that its test value is not optimistic."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import Fused, fuse
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.streams import Streams
from tier4k.heads.evaluation.nested import FusedCandidate, choose, nested_selection
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.registry import resolve_options
from tier4k.tests.builders.devices import note_devices
from tier4k.tests.builders.feature_sets import feature_set

HEADS: list[tuple[HeadName, dict]] = [
    ("svr", {"C": 1}),
    ("ridge", {"penalties": [1.0]}),
    ("kernel-ridge", {"length_scales": [2.0], "penalties": [0.1]}),
    ("ridge", {"penalties": [10.0], "validation_fraction": 0.2}),
    ("mlp", {"max_epochs": 3, "hidden": 4}),
    ("ensemble", {"members": ["ridge", "svr"]}),
]


def candidates(fused: Fused, heads: Sequence[tuple[HeadName, dict]] = HEADS) -> list[FusedCandidate]:
    return [
        FusedCandidate(fused, name, resolve_options(name, "cached", "", options)) for name, options in heads
    ]


def test_nan_is_never_chosen_and_of_equal_candidates_the_first_is() -> None:
    nan = np.nan
    srcc = np.array([[nan, 0.2, nan, -0.5, nan], [-0.9, 0.2, 0.1, nan, nan], [-0.8, 0.1, 0.1, -0.4, nan]])
    assert choose(srcc).tolist() == [2, 0, 1, 2, 0]


@pytest.mark.parametrize("rule", ["prompt", "random", "published", "generator"])
def test_the_scores_of_a_repeats_test_rows_do_not_change_what_it_chooses(rule: str) -> None:
    features = feature_set(rows=96)
    if rule == "generator":
        features = replace(features, generator=np.array([f"g{row % 4}" for row in range(96)], dtype=object))
    request = SplitRequest(rule, repeats=3)
    own = candidates(fuse(features, "nr"))
    before = nested_selection(features, own, "MOS_q", request)
    for repeat, split in enumerate(request.splits(features, 0.0)):
        garbage = features.targets.copy()
        garbage[split.test] = np.random.default_rng(repeat).normal(0, 1e6, (len(split.test), 1))
        after = nested_selection(replace(features, targets=garbage), own, "MOS_q", request)
        np.testing.assert_array_equal(after.selection_srcc[:, repeat], before.selection_srcc[:, repeat])
        assert after.chosen[repeat] == before.chosen[repeat]
        others = np.delete(np.arange(3), repeat)
        if rule != "published":  # there the test rows of all repeats are the same
            assert (after.selection_srcc[:, others] != before.selection_srcc[:, others]).any()


def test_the_test_value_is_that_of_the_chosen_head_fitted_on_the_whole_training_part() -> None:
    features = feature_set()
    features.targets[[3, 17, 18, 40, 61]] = np.nan  # these rows have a score for other targets only
    fused = fuse(features, "nr")
    own = candidates(fused)
    request = SplitRequest("prompt", repeats=4, seed=2)
    result = nested_selection(features, own, "MOS_q", request)
    for repeat, number in enumerate(result.chosen):
        assert result.selection_srcc[number, repeat] == np.nanmax(result.selection_srcc[:, repeat])
        head = own[number]
        splits = request.splits(features, head.head.get("validation_fraction", 0.0))
        trial = run_trials(features, fused, ["MOS_q"], [splits[repeat]], head.estimator, head.head)[0]
        prediction = trial.predictions.get("best_validation", trial.predictions["last"])
        truth = features.targets[splits[repeat].test, 0]
        expected = spearmanr(truth[np.isfinite(truth)], prediction).statistic
        np.testing.assert_allclose(result.test_srcc[repeat], expected, atol=1e-12)


def test_candidates_and_choices_are_fitted_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    features = feature_set()
    own = candidates(
        fuse(features, "nr"), [("mlp", {"max_epochs": 1, "hidden": hidden}) for hidden in (3, 4)]
    )
    devices = note_devices(monkeypatch)
    nested_selection(features, own, "MOS_q", SplitRequest("prompt", repeats=2), device="cuda:1")
    assert len(devices) >= 2 + 1  # two candidates, and at least one choice
    assert set(devices) == {"cuda:1"}


def noise(world: int) -> tuple[FeatureSet, list[FusedCandidate]]:
    """25 prompts of 4 rows whose scores have prompt effects, and 20 encoders that know nothing of them."""
    random = np.random.default_rng([7, world])
    scores = np.repeat(random.normal(size=25), 4) + random.normal(size=100)
    features = feature_set(rows=100)
    own = []
    for _ in range(20):  # half of the variance is between prompts, as in encoders of image and prompt
        encoder = np.repeat(random.normal(size=(25, 6)), 4, axis=0) + random.normal(size=(100, 6))
        own += candidates(Fused(encoder, Streams.of(image=6)), [("svr", {"C": 1.0})])
    return replace(features, targets=scores[:, None]), own


@pytest.mark.slow
def test_on_noise_a_nested_search_finds_nothing_and_choosing_for_all_repeats_at_once_does() -> None:
    request = SplitRequest("prompt", repeats=4)
    nested, pooled = [], []
    for world in range(12):
        features, own = noise(world)
        result = nested_selection(features, own, "MOS_q", request)
        nested.append(result.test_srcc.mean())
        best_on_average = own[result.selection_srcc.mean(axis=1).argmax()]
        pooled.append(nested_selection(features, [best_on_average], "MOS_q", request).test_srcc.mean())
    nested_error, pooled_error = np.std([nested, pooled], axis=1, ddof=1) / np.sqrt(len(nested))
    assert abs(np.mean(nested)) < 2 * nested_error
    assert np.mean(pooled) > 2 * pooled_error
