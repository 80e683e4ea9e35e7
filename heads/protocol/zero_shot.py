"""A published scorer as a run: nothing is fitted, and its scores are judged as a head's predictions are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from tier4k.cache.keys import key_array
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.features import FeatureSet, rows_alone
from tier4k.heads.data.split_files import StoredSplits
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.trial import ZERO_SHOT, Trial
from tier4k.heads.protocol.options import FitOptions, split_name
from tier4k.heads.protocol.plan import resolve_targets, splits_of
from tier4k.heads.protocol.publish import Run, publish_run
from tier4k.heads.results.config import ZERO_SHOT_METHOD, RunConfig
from tier4k.heads.results.files import require_writable
from tier4k.heads.results.results import Results

WHOLE = "whole"

NO_UNIT = "RMSE of a raw score does not exist, as it is not in the target's units"


@dataclass(frozen=True)
class ScoreOptions:
    """What to judge and how.

    Attributes:
        benchmark: Rows that take part.
        targets: Names of targets; ("all",) for every one.
        split: None: all rows at once, as published; else the test rows of every repeat, so that heads can be compared with it.
        repeats, folds, seed: Of the split, as in `FitOptions`.
    """

    benchmark: Benchmark = "all"
    targets: tuple[str, ...] = ("all",)
    split: SplitRule | StoredSplits | None = None
    repeats: int | None = None
    folds: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class EvaluationPlan:
    """A run of a scorer before there are scores, with everything that can be wrong found out.

    Attributes:
        features: What is known of the rows that take part, without scores.
        keys: (N, 32) of their pairs of picture and prompt.
        config: The configuration.
        splits: One for each repeat.
        manifest: All rows of the data set.
    """

    features: FeatureSet
    keys: np.ndarray
    config: RunConfig
    splits: list[Split]
    manifest: Manifest


def plan_evaluation(manifest: Manifest, signature: Signature, options: ScoreOptions) -> EvaluationPlan:
    """Resolve everything.

    Args:
        manifest: All rows of the data set.
        signature: Of the scores.
        options: What to judge.

    Raises:
        TierError: The options do not fit each other or the data.
    """
    selected = manifest.select(options.benchmark)
    features = rows_alone(selected)
    splits, name = _splits(features, options)
    keys = key_array(map(bytes.fromhex, selected.pair_keys()))
    return EvaluationPlan(
        features, keys, _config(selected, signature, options, name, len(splits)), splits, manifest
    )


def evaluate_scorer(plan: EvaluationPlan, store: FeatureStore, out: Path, command: Sequence[str] = ()) -> Run:
    """Judge a scorer and write the run; one of the same configuration that is on disk is read instead.

    Args:
        plan: What to judge.
        store: The scores.
        out: Folder of runs.
        command: Command line, recorded.

    Raises:
        StoreError: Some rows are not scored yet, or the run cannot be written.
        ShardError: A shard is damaged.
    """
    config, folder = plan.config, out / plan.config.id
    if folder.exists():
        return Run(folder, Results.read(folder), found=True)
    scores = store.read(plan.keys)[:, 0].astype(float)
    require_writable(out)
    trials = [
        _trial(plan.features, scores, target, repeat, split)
        for target in config.targets
        for repeat, split in enumerate(plan.splits)
    ]
    return publish_run(out, config, plan.manifest, command, plan.features, trials, plan.splits)


def _config(
    manifest: Manifest, signature: Signature, options: ScoreOptions, split: str, repeats: int
) -> RunConfig:
    return RunConfig(
        data=manifest.name,
        data_digest=manifest.digest,
        method=ZERO_SHOT_METHOD,
        benchmark=options.benchmark,
        targets=resolve_targets(manifest, options.targets),
        signatures={"score": asdict(signature)},
        split=split,
        repeats=repeats,
        seed=options.seed,
        recipe="published",
        estimator=signature.encoder,
        head={},
        models="none",
    )


def _splits(features: FeatureSet, options: ScoreOptions) -> tuple[list[Split], str]:
    """One split that tests all rows, or those asked for, whose test rows are the same whether a head needs validation rows or not."""
    nothing = np.empty(0, int)
    if options.split is None:
        return [Split(nothing, nothing, np.arange(len(features)), options.seed)], WHOLE
    asked = FitOptions(split=options.split, repeats=options.repeats, folds=options.folds, seed=options.seed)
    return splits_of(features, asked, validation=0.0), split_name(asked)


def _trial(features: FeatureSet, scores: np.ndarray, target: str, repeat: int, split: Split) -> Trial:
    trial = Trial.judged(features, target, repeat, split, {ZERO_SHOT: scores[split.test]})
    figures = trial.figures | {ZERO_SHOT: trial.figures[ZERO_SHOT] | {"rmse": float("nan")}}
    reasons = trial.reasons | {ZERO_SHOT: "; ".join(filter(None, (trial.reasons.get(ZERO_SHOT), NO_UNIT)))}
    return replace(trial, figures=figures, reasons=reasons)
