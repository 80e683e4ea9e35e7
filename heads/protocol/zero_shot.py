"""Evaluate the scores of a scorer and write a run: nothing is fitted; scores are treated like predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tier4k.cache.keys import key_array, sortable
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.data.features import FeatureSet, rows_without_features
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.splits import Split, SplitError
from tier4k.heads.evaluation.alignment import scored_rows
from tier4k.heads.evaluation.trial import ZERO_SHOT, Trial
from tier4k.heads.protocol.plan import recorded_datasets, require_scores, resolve_targets
from tier4k.heads.protocol.publish import publish_run
from tier4k.heads.results.config import ZERO_SHOT_METHOD, RunConfig
from tier4k.heads.results.find_run import finished_run
from tier4k.heads.results.run import Run, read_run
from tier4k.heads.results.write import require_writable

ALL_ROWS = "whole"  # name of the split in which every row is a test row
NO_UNIT = "raw scores have no RMSE, because they are not on the scale of the target"


@dataclass(frozen=True)
class ScoreOptions:
    """Options of the evaluation of a scorer.

    Attributes:
        benchmark: Rows that take part.
        targets: Names of targets; ("all",) means every target.
        split: The splits whose test rows are evaluated, for comparison with heads; None evaluates all rows
            together, as published.
    """

    benchmark: Benchmark = "all"
    targets: tuple[str, ...] = ("all",)
    split: SplitRequest | None = None


@dataclass(frozen=True)
class EvaluationPlan:
    """A run of a scorer before the scores exist; the options are consistent with each other and the data.

    Attributes:
        features: The rows that take part, without features.
        keys: (N, 32) keys of the pairs of image and prompt.
        config: The configuration of the run.
        splits: One split for each repeat; its test rows have a score.
        manifest: All rows of the data set.
        unscored: Number of the rows that take part, but have no score.
    """

    features: FeatureSet
    keys: np.ndarray
    config: RunConfig
    splits: list[Split]
    manifest: Manifest
    unscored: int = 0


def plan_evaluation(
    manifest: Manifest,
    signature: Signature,
    options: ScoreOptions,
    scored: np.ndarray | None = None,
) -> EvaluationPlan:
    """Resolve the options of a run of a scorer and find every problem.

    Args:
        manifest: All rows of the data set.
        signature: Signature of the scores.
        options: Options of the evaluation.
        scored: (P, 32) keys of the pairs of image and prompt that another program scored; other rows are no
            test rows. None if all rows are to be scored.

    Raises:
        TierError: The options contradict each other or the data, or too few test rows have a score.
    """
    selected = manifest.select(options.benchmark)
    features = rows_without_features(selected)
    keys = key_array(map(bytes.fromhex, selected.pair_keys()))
    is_scored = np.ones(len(keys), bool) if scored is None else np.isin(sortable(keys), sortable(scored))
    splits = [_with_scores(split, is_scored, signature.encoder) for split in _splits(features, options.split)]
    require_scores(selected, resolve_targets(selected, options.targets), splits)
    return EvaluationPlan(
        features,
        keys,
        _config(selected, signature, options, len(splits)),
        splits,
        manifest,
        int((~is_scored).sum()),
    )


def _with_scores(
    split: Split,
    is_scored: np.ndarray,
    name: str,
) -> Split:
    """Return a split whose test rows have a score; training rows, from which baselines follow, need none.

    Raises:
        SplitError: Fewer than two test rows have a score.
    """
    test = split.test[is_scored[split.test]]
    if len(test) < 2:
        raise SplitError(
            f"{len(test)} of the {len(split.test)} test rows of the split with seed {split.seed} have a "
            f"score of {name}, and at least 2 must have one: add the others to the file of scores"
        )
    return replace(split, test=test)


def evaluate_scorer(
    plan: EvaluationPlan,
    store: FeatureStore,
    out: Path,
    command: Sequence[str] = (),
) -> Run:
    """Evaluate a scorer and write the run; if a run of the same configuration exists, read it instead.

    Args:
        plan: The planned run.
        store: Store with the scores.
        out: Folder of runs.
        command: Command line, which is recorded in the run.

    Raises:
        StoreError: Some rows are not scored yet, or the run cannot be written.
        ShardError: A shard is damaged.
    """
    if stored := finished_run(out, plan.config):
        return read_run(stored)
    scores = np.full(len(plan.keys), np.nan)
    rows = np.unique(np.concatenate([split.test for split in plan.splits]))
    scores[rows] = store.read(plan.keys[rows])[:, 0]
    require_writable(out)
    trials = []
    for target in plan.config.targets:
        for repeat, split in enumerate(plan.splits):
            trials.append(_trial(plan.features, scores, target, repeat, split))
    return publish_run(
        out,
        plan.config,
        plan.manifest,
        command,
        plan.features,
        trials,
        plan.splits,
        unscored=plan.unscored,
    )


def _config(
    manifest: Manifest,
    signature: Signature,
    options: ScoreOptions,
    repeats: int,
) -> RunConfig:
    return RunConfig(
        data=manifest.name,
        data_digest=manifest.digest,
        ratings_digest=manifest.ratings_digest,
        method=ZERO_SHOT_METHOD,
        benchmark=options.benchmark,
        targets=resolve_targets(manifest, options.targets),
        signatures={"score": signature},
        split=options.split.name if options.split else ALL_ROWS,
        repeats=repeats,
        seed=options.split.seed if options.split else 0,
        recipe="published",
        estimator=signature.encoder,
        head={},
        models="none",
        datasets=recorded_datasets(manifest),
    )


def _splits(features: FeatureSet, request: SplitRequest | None) -> list[Split]:
    """Make the splits, with the same test rows as the splits of a head."""
    if request is None:
        no_rows = np.empty(0, int)
        return [Split(no_rows, no_rows, np.arange(len(features)), seed=0)]
    return request.splits(features, validation=0.0)


def _trial(
    features: FeatureSet,
    scores: np.ndarray,
    target: str,
    repeat: int,
    split: Split,
) -> Trial:
    """Evaluate raw scores, which have no RMSE, on the test rows that have a score for the target."""
    test = scored_rows(features, target, split).split.test
    trial = Trial.evaluated(features, target, repeat, split, {ZERO_SHOT: scores[test]})
    return trial.without_rmse(ZERO_SHOT, NO_UNIT)
