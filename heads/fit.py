"""`fit-head`: from a manifest and two stores to a run."""

import difflib
import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cache.errors import TierError
from cache.store import FeatureStore, StoreError
from extract.choices import Benchmark
from extract.levels import Levels
from extract.manifest import Manifest
from heads.choices import HeadName, KeptModels, Method, RecipeName, SplitRule
from heads.experiment import Trial, run_trials, summarize
from heads.features import FeatureSet, fuse, load_features, require_possible
from heads.registry import resolve_options
from heads.results import Results, RunConfig, code_digest, require_writable, write_run
from heads.splits import Split, default_repeats, make_splits


class FitError(TierError):
    """Something that cannot be fitted."""


@dataclass(frozen=True)
class FitOptions:
    """What to fit and how.

    Attributes:
        method: "nr", "fr" or "pr".
        benchmark: Rows that take part.
        targets: Names of targets; ("all",) for every one.
        stages: Levels of multilevel features by name or number; none for all.
        split, repeats, seed: The protocol; repeat r has the seed `seed + r`. None repeats: `default_repeats`.
        recipe: "cached" or "published".
        estimator: Name of the head.
        head: Options of the head that differ from the recipe's; values may be texts.
        models: Which fitted heads to keep: of all repeats, of the first, none.
        zero_shot: Stores of zero-shot scores, which heads see as further features.
    """

    method: Method = "nr"
    benchmark: Benchmark = "AIGIQA4K"
    targets: tuple[str, ...] = ("all",)
    stages: tuple[str, ...] = ()
    split: SplitRule = "prompt"
    repeats: int | None = None
    seed: int = 0
    recipe: RecipeName = "cached"
    estimator: HeadName = "mlp"
    head: dict[str, Any] = field(default_factory=dict)
    models: KeptModels = "all"
    zero_shot: tuple[FeatureStore, ...] = ()


@dataclass(frozen=True)
class Run:
    """A run that is on disk: its folder, its results, and whether it was there already."""

    folder: Path
    results: Results
    found: bool


def fit_head(
    manifest: Manifest,
    images: FeatureStore,
    texts: FeatureStore,
    options: FitOptions,
    out: Path,
    command: Sequence[str] = (),
    finished: Callable[[int, int], None] = lambda *_: None,
) -> Run:
    """Fit, evaluate and write a run; a run of the same configuration that is on disk is read instead.

    Args:
        manifest: All rows of the data set.
        images, texts: Stores of their features.
        options: What to fit.
        out: Folder of runs.
        command: Command line, recorded.
        finished: Called with (heads fitted, heads in all).

    Raises:
        TierError: The options do not fit each other or the data; nothing has been written then.
    """
    config = configure(manifest, images, texts, options)
    selected, targets = manifest.select(options.benchmark), config.targets
    folder = out / config.id
    if folder.exists():
        return Run(folder, Results.read(folder), found=True)
    features = load_features(selected, images, texts, config.stages, options.zero_shot)
    splits = _splits(features, options.split, config)
    fused = fuse(features, options.method)
    require_writable(out)
    trials = run_trials(features, fused, targets, splits, options.estimator, config.head, finished)
    return publish_run(out, config, manifest, command, features, trials, splits)


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
    results, folder = Results.of(config, features, trials, splits, summarize(features, trials, splits)), out / config.id
    try:
        write_run(out, config, _environment(manifest, command), results, features, trials, splits)
    except StoreError:
        if not folder.exists():
            raise
        return Run(folder, Results.read(folder), found=True)  # another process was faster with the same run
    return Run(folder, results, found=False)


def resolve_targets(manifest: Manifest, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The targets of a data set that are meant, ("all",) being every one.

    Raises:
        FitError: There is no such target.
    """
    if not manifest.targets:
        raise FitError(f"{manifest.name} has no numeric score column, so there is nothing to fit")
    if wanted == ("all",):
        return manifest.targets
    for name in wanted:
        if name not in manifest.targets:
            close = difflib.get_close_matches(name, manifest.targets, n=1, cutoff=0.3)
            nearest = f" (nearest: {close[0]})" if close else ""
            raise FitError(f"{manifest.name} has no target {name!r}{nearest}: choose among {', '.join(manifest.targets)}, or all")
    return tuple(dict.fromkeys(wanted))


def configure(manifest: Manifest, images: FeatureStore, texts: FeatureStore, options: FitOptions) -> RunConfig:
    """The configuration of a run, everything resolved; the arguments are those of `fit_head`.

    Raises:
        TierError: The options do not fit each other or the data.
    """
    require_possible(options.method, options.benchmark)
    selected = manifest.select(options.benchmark)
    return _config(selected, images, texts, options, resolve_targets(selected, options.targets))


def _config(manifest: Manifest, images: FeatureStore, texts: FeatureStore, options: FitOptions, targets: tuple[str, ...]) -> RunConfig:
    return RunConfig(
        data=manifest.name,
        data_digest=manifest.digest,
        method=options.method,
        benchmark=options.benchmark,
        targets=targets,
        signatures={
            "image": asdict(images.signature),
            "text": asdict(texts.signature),
            **{store.signature.encoder: asdict(store.signature) for store in options.zero_shot},
        },
        stages=Levels.parse(images.signature.feature).named(options.stages) if options.stages else (),
        split=options.split,
        repeats=options.repeats or default_repeats(options.split, manifest.table["generator"].nunique()),
        seed=options.seed,
        recipe=options.recipe,
        estimator=options.estimator,
        head=resolve_options(options.estimator, options.recipe, images.signature.architecture, options.head, lambda: texts.width),
        models=options.models,
        code=code_digest(),
    )


def _splits(features: FeatureSet, rule: SplitRule, config: RunConfig) -> list[Split]:
    with_validation = config.head.get("validation_fraction", 0) > 0
    return make_splits(features, rule, config.repeats, config.seed, with_validation)


def _environment(manifest: Manifest, command: Sequence[str]) -> dict[str, Any]:
    libraries = ("tier4k", "torch", "numpy", "scikit-learn", "scipy", "pandas")
    return {
        "command": list(command),
        "data": str(manifest.source.resolve()),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
    }
