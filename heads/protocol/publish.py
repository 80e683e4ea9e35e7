"""Summarise and write a run."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tier4k.cache.errors import StoreError
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.versions import library_version
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.new_prompts import SEEN_PROMPTS
from tier4k.heads.evaluation.summary import summarize
from tier4k.heads.evaluation.trial import CALIBRATED, ELSEWHERE, Trial
from tier4k.heads.results.config import Environment, RunConfig
from tier4k.heads.results.find_run import stored_run
from tier4k.heads.results.results import Results, Summaries
from tier4k.heads.results.run import Run, read_run
from tier4k.heads.results.seen import Seen
from tier4k.heads.results.write import write_run

RECORDED_LIBRARIES = ("tier4k", "torch", "accelerate", "numpy", "scikit-learn", "scipy", "pandas")


def publish_run(
    out: Path,
    config: RunConfig,
    manifest: Manifest,
    command: Sequence[str],
    features: FeatureSet,
    trials: Sequence[Trial],
    splits: Sequence[Split],
    seen: Seen | None = None,
    unscored: int = 0,
) -> Run:
    """Summarise and write a run.

    Args:
        out: Folder of runs.
        config: The configuration of the run.
        manifest: All rows of the data set.
        command: Command line, which is recorded in the run.
        features: Features and scores of the rows that the run uses.
        trials: One trial for each target and repeat.
        splits: One split for each repeat.
        seen: As in `Results.of`.
        unscored: As in `Results`.
    """
    seen_reason = SEEN_PROMPTS if seen and any(seen.prompts or ()) else ""
    summaries = summarize(features, trials, splits, seen_reason)
    results = Results.of(config, features, trials, splits, _with_calibrated_rmse(summaries), seen)
    independent = manifest.images_are_independent
    results = replace(results, independent_images=independent, unscored=unscored)
    seconds = sum(trial.seconds for trial in trials)
    try:
        config = replace(config, environment=_environment(config, manifest, command, seconds))
        folder = write_run(out, config, results, features, trials, splits, manifest.table)
    except StoreError:
        if (stored := stored_run(out, config)) is None:
            raise
        return read_run(stored)  # another process published the same run first
    return Run(folder, results, seconds, found=False)


def _with_calibrated_rmse(summaries: Summaries) -> Summaries:
    """Replace the RMSE of predictions by that of the calibrated predictions, if there are any.

    The other metrics are those of the uncalibrated predictions: each fold has its own linear map, so
    calibration changes the order of predictions in different folds.
    """
    folded = {}
    for target, by_name in summaries.items():
        names = dict(by_name)
        if calibrated := names.pop(CALIBRATED, None):
            names[ELSEWHERE] = names[ELSEWHERE] | {"rmse": calibrated["rmse"]}
        folded[target] = names
    return folded


def _environment(
    config: RunConfig,
    manifest: Manifest,
    command: Sequence[str],
    seconds: float,
) -> Environment:
    versions = {name: library_version(name) for name in RECORDED_LIBRARIES}
    versions |= dict(package.rsplit(" ", 1) for package in manifest.packages)
    for plugin in config.plugins:
        versions[plugin.distribution or plugin.path] = plugin.version or plugin.source
    return Environment(
        command=tuple(command),
        data=str(manifest.sources[0].resolve()),
        more_data=tuple(str(source.resolve()) for source in manifest.sources[1:]),
        table=manifest.choice.given,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        versions=versions,
        seconds=seconds,
        device=config.environment.device,
    )
