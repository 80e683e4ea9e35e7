"""`fit-head`: from a manifest and two stores to a run."""

import difflib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import TierError
from cache.signature import Signature
from cache.store import FeatureStore, StoreError
from extract.choices import Benchmark
from extract.encoders import ImageEncoder, TextEncoder, library_version
from extract.levels import Levels
from extract.manifest import Manifest
from heads.choices import HeadName, KeptModels, Method, RecipeName, SplitRule
from heads.estimator import Weights
from heads.experiment import Trial, run_trials, summarize
from heads.features import FeatureSet, Rows, fuse, load_features, require_possible
from heads.finetuned import require_unseen
from heads.model import Place
from heads.recipes import finetune_recipe
from heads.registry import options_at_default, resolve_options
from heads.results import Results, RunConfig, require_writable, write_run
from heads.splits import Split, SplitError, StoredSplits, default_repeats, make_splits, with_seeds
from heads.start import Start


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
        folds: So many repeats whose test parts part the rows among them; None for parts that each repeat draws anew.
        seeds: Heads fitted on each split, with seeds of their own.
        recipe: "cached" or "published".
        estimator: Name of the head.
        head: Options of the head that differ from the recipe's; values may be texts.
        models: Which fitted heads to keep: of all repeats, of the first, none.
        zero_shot: Stores of zero-shot scores, which heads see as further features.
        finetune: Which part of the encoders is trained with the head; "none" fits the head on stored features.
        training: Options of that training that differ from the recipe's; values may be texts.
        start: Run whose heads these go on from; None starts anew.
    """

    method: Method = "nr"
    benchmark: Benchmark = "AIGIQA4K"
    targets: tuple[str, ...] = ("all",)
    stages: tuple[str, ...] = ()
    split: SplitRule | StoredSplits = "prompt"
    repeats: int | None = None
    seed: int = 0
    folds: int | None = None
    seeds: int = 1
    recipe: RecipeName = "cached"
    estimator: HeadName = "mlp"
    head: dict[str, Any] = field(default_factory=dict)
    models: KeptModels = "all"
    zero_shot: tuple[FeatureStore, ...] = ()
    finetune: str = "none"
    training: dict[str, Any] = field(default_factory=dict)
    start: Path | None = None


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
    return fit_plans([plan_run(manifest, images, texts, options)], out, command, finished)[0]


@dataclass(frozen=True)
class Plan:
    """A run before it is fitted, with everything that can be wrong found out.

    Attributes:
        manifest: The rows that take part.
        images, texts: Stores of their features; encoders where these are to be finetuned.
        zero_shot: Stores of the zero-shot scores that stand beside them.
        method, estimator: As in the options.
        config: The configuration.
        splits: One for each repeat.
        starts: By target and repeat the weights that training starts from, where it does not start anew.
    """

    manifest: Manifest
    images: FeatureStore | ImageEncoder
    texts: FeatureStore | TextEncoder
    zero_shot: Sequence[FeatureStore]
    method: Method
    estimator: HeadName
    config: RunConfig
    splits: list[Split]
    starts: Mapping[Place, Weights] = field(default_factory=dict)

    @property
    def fits(self) -> int:
        """How many heads it fits."""
        return len(self.config.targets) * len(self.splits)

    @property
    def alike(self) -> str:
        """Equal for runs that differ in nothing but their targets, and so can be fitted at once."""
        return replace(self.config, targets=()).id


def fit_plans(
    plans: Sequence[Plan], out: Path, command: Sequence[str] = (), finished: Callable[[int, int], None] = lambda *_: None
) -> list[Run]:
    """Fit, evaluate and write runs that are `alike`; those that are on disk are read instead. The arguments are those of `fit_head`."""
    missing = [plan for plan in plans if not (out / plan.config.id).exists()]
    fitted = _fit_missing(missing, out, command, finished) if missing else {}
    return [fitted.get(plan.config.id) or _found(out / plan.config.id) for plan in plans]


def _fit_missing(plans: Sequence[Plan], out: Path, command: Sequence[str], finished: Callable[[int, int], None]) -> dict[str, Run]:
    one = plans[0]
    assert isinstance(one.images, FeatureStore)
    assert isinstance(one.texts, FeatureStore)
    require_unseen(one.manifest, one.splits, one.images, one.texts)
    features = load_features(one.manifest, one.images, one.texts, one.config.stages, one.zero_shot)
    fused = fuse(features, one.method)
    require_writable(out)
    targets = list(dict.fromkeys(target for plan in plans for target in plan.config.targets))
    starts = {place: weights for plan in plans for place, weights in plan.starts.items()}
    trials = run_trials(features, fused, targets, one.splits, one.estimator, one.config.head, finished, starts)
    of_plan = {plan.config.id: [trial for trial in trials if trial.target in plan.config.targets] for plan in plans}
    return {
        plan.config.id: publish_run(out, plan.config, plan.manifest, command, features, of_plan[plan.config.id], plan.splits)
        for plan in plans
    }


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
        return _found(folder)  # another process was faster with the same run
    return Run(folder, results, found=False)


def _found(folder: Path) -> Run:
    return Run(folder, Results.read(folder), found=True)


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


def plan_run(manifest: Manifest, images: FeatureStore | ImageEncoder, texts: FeatureStore | TextEncoder, options: FitOptions) -> Plan:
    """A run, everything resolved; the arguments are those of `fit_head`, or of `heads.finetune.finetune`.

    Raises:
        TierError: The options do not fit each other or the data.
    """
    if (options.finetune == "none") != isinstance(images, FeatureStore):
        raise FitError(f"finetune is {options.finetune!r}: stored features are for 'none', encoders for everything else")
    require_possible(options.method, options.benchmark)
    selected = manifest.select(options.benchmark)
    targets = resolve_targets(selected, options.targets)
    architecture = images.signature.architecture
    training = _training(options, architecture) if options.finetune != "none" else {}
    # Only heads that see text and pictures apart ask for the width, and these are not trained end to end.
    width = (lambda: texts.width) if isinstance(texts, FeatureStore) else (lambda: 0)
    head = resolve_options(options.estimator, options.recipe, architecture, options.head, width)
    if training:
        head["validation_fraction"] = training["validation_fraction"]
    rows = Rows.of(selected)
    splits = with_seeds(splits_of(rows, options, head.get("validation_fraction", 0.0)), options.seeds)
    config = _config(selected, images, texts, options, targets, head, training, len(splits) // options.seeds)
    plan = Plan(selected, images, texts, options.zero_shot, options.method, options.estimator, config, splits)
    return _started(plan, rows, options.start) if options.start else plan


def _started(plan: Plan, rows: Rows, run: Path) -> Plan:
    """The same with heads that go on from those of another run."""
    if not (isinstance(plan.images, FeatureStore) and isinstance(plan.texts, FeatureStore)):
        raise FitError("--start is for heads on stored features: with --finetune the head starts as the training's options say")
    start, config = Start.read(run), plan.config
    start.require_like(config)
    signatures = {name: Signature.from_dict(values) for name, values in config.signatures.items()}
    weights = start.weights(rows, config.targets, plan.splits, signatures)
    return replace(plan, config=replace(config, start=start.run), starts=weights)


def splits_of(rows: Rows, options: FitOptions, validation: float) -> list[Split]:
    """The splits that a run's options ask for, each once.

    Args:
        rows: The rows that take part.
        options: Their protocol is looked at.
        validation: Share of the training part that becomes the validation part, as for `make_splits`.

    Raises:
        SplitError: The options do not fit each other or the rows.
    """
    split, repeats, folds = options.split, options.repeats, options.folds
    if isinstance(split, StoredSplits):
        if repeats or folds:
            raise SplitError(f"{split.path} has {len(split.repeats)} repeats of its own: leave out --repeats and --folds")
        return split.of(rows, options.seed, validation)
    if repeats and folds:
        raise SplitError(f"{folds} folds are {folds} repeats: leave out --repeats")
    count = folds or repeats or default_repeats(split, len(np.unique(rows.generator)))
    return make_splits(rows, split, count, options.seed, validation, folds is not None)


def split_name(options: FitOptions) -> str:
    """What a run calls its split: the rule, with the number of folds, or "file-" and the beginning of a digest."""
    if isinstance(options.split, StoredSplits):
        return options.split.name
    return options.split + (f"-{options.folds}-fold" if options.folds else "")


def _training(options: FitOptions, image_architecture: str) -> dict[str, Any]:
    if options.estimator != "mlp":
        raise FitError(f"--finetune trains TIER's two layers with the encoders, not --head {options.estimator}: use --head mlp")
    if options.stages:
        raise FitError("--stages picks slices of stored features, and --finetune reads none: leave it out")
    return asdict(finetune_recipe(options.finetune, options.recipe, image_architecture, options.training))


def _training_at_default(options: FitOptions, image_architecture: str, training: dict[str, Any]) -> tuple[str, ...]:
    """The names of the options of end-to-end training that are at the recipe's value; none of a head on stored features."""
    if not training:
        return ()
    defaults = asdict(finetune_recipe(options.finetune, options.recipe, image_architecture, {}))
    del defaults["part"]  # which has no default, and without which the run would be one on stored features
    return tuple(name for name, value in defaults.items() if training[name] == value)


def _config(
    manifest: Manifest,
    images: FeatureStore | ImageEncoder,
    texts: FeatureStore | TextEncoder,
    options: FitOptions,
    targets: tuple[str, ...],
    head: dict[str, Any],
    training: dict[str, Any],
    repeats: int,
) -> RunConfig:
    architecture = images.signature.architecture
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
        split=split_name(options),
        repeats=repeats,
        seed=options.seed,
        seeds=options.seeds,
        recipe=options.recipe,
        estimator=options.estimator,
        head=head,
        head_defaults=options_at_default(options.estimator, options.recipe, architecture, head),
        finetune=training,
        finetune_defaults=_training_at_default(options, architecture, training),
        models=options.models,
    )


def _environment(manifest: Manifest, command: Sequence[str]) -> dict[str, Any]:
    libraries = ("tier4k", "torch", "accelerate", "numpy", "scikit-learn", "scipy", "pandas")
    return {
        "command": list(command),
        "data": str(manifest.source.resolve()),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: library_version(name) for name in libraries},
    }
