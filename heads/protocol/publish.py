"""A run is summarised and written."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tier4k.cache.store import StoreError
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.versions import library_version
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.summary import summarize
from tier4k.heads.evaluation.trial import Trial
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.files import write_run
from tier4k.heads.results.results import Results


@dataclass(frozen=True)
class Run:
    """A run that is on disk: its folder, its results, and whether it was there already."""

    folder: Path
    results: Results
    found: bool


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
        config: The configuration.
        manifest: All rows of the data set.
        command: Command line, recorded.
        features: The rows.
        trials: One for each target and repeat.
        splits: One for each repeat.
    """
    results, folder = (
        Results.of(config, features, trials, splits, summarize(features, trials, splits)),
        out / config.id,
    )
    try:
        write_run(out, config, _environment(manifest, command), results, features, trials, splits)
    except StoreError:
        if not folder.exists():
            raise
        return _found(folder)  # another process was faster with the same run
    return Run(folder, results, found=False)


def _found(folder: Path) -> Run:
    return Run(folder, Results.read(folder), found=True)


def _environment(manifest: Manifest, command: Sequence[str]) -> dict[str, Any]:
    libraries = ("tier4k", "torch", "accelerate", "numpy", "scikit-learn", "scipy", "pandas")
    return {
        "command": list(command),
        "data": str(manifest.source.resolve()),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: library_version(name) for name in libraries},
    }
