"""Summarise and write a run."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tier4k.cache.errors import StoreError
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.versions import library_version
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.summary import summarize
from tier4k.heads.evaluation.trial import Trial
from tier4k.heads.results.config import Environment, RunConfig
from tier4k.heads.results.results import Results
from tier4k.heads.results.write import write_run

RECORDED_LIBRARIES = ("tier4k", "torch", "accelerate", "numpy", "scikit-learn", "scipy", "pandas")


@dataclass(frozen=True)
class Run:
    """A stored run.

    Attributes:
        folder: Folder of the run.
        results: Results of the run.
        found: Whether the run was stored before this command.
    """

    folder: Path
    results: Results
    found: bool


def read_run(folder: Path) -> Run:
    """Read a run that another command stored.

    Raises:
        ResultError: The run cannot be read.
    """
    return Run(folder, Results.read(folder), found=True)


def publish_run(
    out: Path,
    config: RunConfig,
    manifest: Manifest,
    command: Sequence[str],
    features: FeatureSet,
    trials: Sequence[Trial],
    splits: Sequence[Split],
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
    """
    summaries = summarize(features, trials, splits)
    results = Results.of(config, features, trials, splits, summaries)
    folder = out / config.id
    try:
        config = replace(config, environment=_environment(manifest, command))
        write_run(out, config, results, features, trials, splits)
    except StoreError:
        if not folder.exists():
            raise
        return read_run(folder)  # another process published the same run first
    return Run(folder, results, found=False)


def _environment(manifest: Manifest, command: Sequence[str]) -> Environment:
    return Environment(
        command=tuple(command),
        data=str(manifest.source.resolve()),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        versions={name: library_version(name) for name in RECORDED_LIBRARIES},
    )
