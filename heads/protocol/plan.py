"""A run before it is fitted: options resolved, splits drawn, problems found."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.levels import Levels
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import Rows
from tier4k.heads.data.fusion import require_possible
from tier4k.heads.data.split_files import StoredSplits
from tier4k.heads.data.splits import Split, SplitError, default_repeats, make_splits, with_seeds
from tier4k.heads.protocol.options import FROZEN_ENCODERS, FitError, FitOptions, TrainingOptions, split_name
from tier4k.heads.protocol.warm_start import Start
from tier4k.heads.regressors.base import Weights
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.registry import options_at_default, resolve_options
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.model import HeadKey


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
    starts: Mapping[HeadKey, Weights] = field(default_factory=dict)

    @property
    def fits(self) -> int:
        """How many heads it fits."""
        return len(self.config.targets) * len(self.splits)

    @property
    def alike(self) -> str:
        """Equal for runs that differ in nothing but their targets, and so can be fitted at once."""
        return replace(self.config, targets=()).id


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
            raise FitError(
                f"{manifest.name} has no target {name!r}{nearest}: choose among {', '.join(manifest.targets)}, or all"
            )
    return tuple(dict.fromkeys(wanted))


def plan_run(
    manifest: Manifest,
    images: FeatureStore | ImageEncoder,
    texts: FeatureStore | TextEncoder,
    options: FitOptions,
    training: TrainingOptions = FROZEN_ENCODERS,
) -> Plan:
    """Resolve everything about a run and find what is wrong with it.

    Args:
        manifest: All rows of the data set.
        images, texts: Stores of features, or the encoders to train end to end.
        options: What to fit.
        training: The options of end-to-end training, resolved.

    Raises:
        TierError: The options do not fit each other or the data.
    """
    if (options.finetune == "none") != isinstance(images, FeatureStore):
        raise FitError(
            f"finetune is {options.finetune!r}: stored features are for 'none', encoders for everything else"
        )
    require_possible(options.method, options.benchmark)
    selected = manifest.select(options.benchmark)
    targets = resolve_targets(selected, options.targets)
    architecture = images.signature.architecture
    # Only heads that see text and pictures apart ask for the width, and these are not trained end to end.
    width = (lambda: texts.width) if isinstance(texts, FeatureStore) else (lambda: 0)
    head = resolve_options(options.estimator, options.recipe, architecture, options.head, width)
    if training.values:
        head["validation_fraction"] = training.values["validation_fraction"]
    rows = Rows.of(selected)
    splits = with_seeds(splits_of(rows, options, head.get("validation_fraction", 0.0)), options.seeds)
    config = _config(selected, images, texts, options, targets, head, training, len(splits) // options.seeds)
    plan = Plan(selected, images, texts, options.zero_shot, options.method, options.estimator, config, splits)
    return _started(plan, rows, options.start) if options.start else plan


def _started(plan: Plan, rows: Rows, run: Path) -> Plan:
    """The same with heads that go on from those of another run."""
    if not (isinstance(plan.images, FeatureStore) and isinstance(plan.texts, FeatureStore)):
        raise FitError(
            "--start is for heads on stored features: with --finetune the head starts as the training's options say"
        )
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
            raise SplitError(
                f"{split.path} has {len(split.repeats)} repeats of its own: leave out --repeats and --folds"
            )
        return split.of(rows, options.seed, validation)
    if repeats and folds:
        raise SplitError(f"{folds} folds are {folds} repeats: leave out --repeats")
    count = folds or repeats or default_repeats(split, len(np.unique(rows.generator)))
    return make_splits(rows, split, count, options.seed, validation, folds is not None)


def _config(
    manifest: Manifest,
    images: FeatureStore | ImageEncoder,
    texts: FeatureStore | TextEncoder,
    options: FitOptions,
    targets: tuple[str, ...],
    head: dict[str, Any],
    training: TrainingOptions,
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
        finetune=training.values,
        finetune_defaults=training.at_default,
        models=options.models,
    )
