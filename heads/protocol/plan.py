"""Plan a run before it is fitted: resolve the options, make the splits, and find problems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tier4k.cache.text import nearest
from tier4k.extract.datasets.choices import Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.templates import read_templates
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import rows_without_features
from tier4k.heads.data.fusion import encoder_kinds, require_valid_benchmark, used_streams
from tier4k.heads.data.interactions import needed_embeddings
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.splits import Split, with_seeds
from tier4k.heads.data.stages import resolve_stages
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.evaluation.alignment import scored_rows
from tier4k.heads.protocol.options import FROZEN_ENCODERS, FitOptions, ProtocolError, TrainingOptions
from tier4k.heads.protocol.warm_start import Start
from tier4k.heads.regressors.registry import (
    has_networks,
    head_plugins,
    options_at_default,
    require_inputs,
    resolve_options,
    validation_share,
)
from tier4k.heads.regressors.tasks import Weights
from tier4k.heads.results.config import Environment, RunConfig
from tier4k.heads.results.find_run import find_run
from tier4k.heads.results.model import HeadKey


@dataclass(frozen=True)
class Plan:
    """A run before it is fitted; the options are consistent with each other and with the data.

    Attributes:
        manifest: The rows that take part.
        inputs: Stores with the features of the rows, or the encoders to train end to end.
        method, streams, estimator: The fusion method, its streams that the heads use (an empty tuple for
            all), and the name of the head.
        config: The configuration of the run.
        splits: One split for each repeat and seed.
        starts: Weights that training starts from, by target and repeat; empty for new heads.
    """

    manifest: Manifest
    inputs: FeatureStores | EncoderPair
    method: Method
    streams: tuple[Stream, ...]
    estimator: str
    config: RunConfig
    splits: list[Split]
    starts: Mapping[HeadKey, Weights] = field(default_factory=dict)

    @property
    def fits(self) -> int:
        """Number of heads to fit."""
        return len(self.config.targets) * len(self.splits)

    @property
    def device(self) -> str:
        """Device on which the heads are fitted on stored features: the CPU if none of them is a network."""
        return self.config.environment.device

    @property
    def without_targets(self) -> str:
        """Identity without the targets; runs with the same value are fitted together."""
        return replace(self.config, targets=()).digest


def resolve_targets(manifest: Manifest, names: Sequence[str]) -> tuple[str, ...]:
    """Return targets of a data set by their names; ("all",) means every target.

    Raises:
        ProtocolError: There is no such target.
    """
    if not manifest.targets:
        raise ProtocolError(f"{manifest.name} has no numeric score column, so there is nothing to fit")
    if tuple(names) == ("all",):
        return manifest.targets
    for name in names:
        if name not in manifest.targets:
            target_names = ", ".join(manifest.targets)
            raise ProtocolError(
                f"{manifest.name} has no target {name!r}{nearest(name, manifest.targets)}: pass "
                f"{target_names}, or all"
            )
    return tuple(dict.fromkeys(names))


def plan_run(
    manifest: Manifest,
    inputs: FeatureStores | EncoderPair,
    options: FitOptions,
    training: TrainingOptions = FROZEN_ENCODERS,
) -> Plan:
    """Resolve the options of a run, make its splits and find every problem.

    Args:
        manifest: All rows of the data set.
        inputs: Stores of features, or the encoders to train end to end.
        options: Options of the fit.
        training: The resolved options of end-to-end training.

    Raises:
        TierError: The options contradict each other or the data.
    """
    if (options.finetune == "none") != isinstance(inputs, FeatureStores):
        raise ProtocolError(
            f"finetune is {options.finetune!r}: pass stores of features if it is 'none', otherwise pass "
            "encoders"
        )
    require_valid_benchmark(options.method, options.rows)
    options = options.for_rows(manifest)
    require_encoders(inputs, options)
    if isinstance(inputs, FeatureStores):
        inputs = inputs.for_streams(used_streams(options.method, options.streams), options.interaction)
        inputs.require_templates(options.interaction, _templates(options))
    selected = manifest.select(options.rows)
    head = _head_options(inputs, options, training)
    rows = Rows.of(selected)
    request = options.split_request(selected)
    splits = request.splits(rows, validation_share(options.estimator, head))
    require_scores(selected, resolve_targets(selected, options.targets), splits)
    plan = Plan(
        selected,
        inputs,
        options.method,
        options.streams,
        options.estimator,
        _config(selected, inputs, options, head, training, request, len(splits)),
        with_seeds(splits, options.seeds),
    )
    if options.start:
        return _add_starting_weights(plan, rows, options.start)
    return plan


def _score_kinds(inputs: FeatureStores | EncoderPair) -> list[str]:
    """Return "score" if zero-shot scores are inputs of the head."""
    return sorted({signature.stream for signature in inputs.signatures.values()} & {"score"})


def require_encoders(inputs: FeatureStores | EncoderPair, options: FitOptions) -> None:
    """Refuse streams without an encoder.

    Raises:
        FusionError: The method has no such stream.
        ProtocolError: No encoder computes the features of a stream.
    """
    available = {signature.stream for signature in inputs.signatures.values()}
    for kind in encoder_kinds(options.method, options.streams):
        if kind not in available:
            streams = "+".join(used_streams(options.method, options.streams))
            raise ProtocolError(f"the streams {streams} need {kind} features, and there is no {kind} encoder")


def _templates(options: FitOptions) -> tuple[str, ...]:
    """Return the texts that images are compared with; none if the head's interaction has no templates."""
    if "templates" not in needed_embeddings(options.interaction):
        return ()
    return options.templates or read_templates(None).texts


def require_scores(
    manifest: Manifest,
    targets: Sequence[str],
    splits: Sequence[Split],
) -> None:
    """Refuse targets that too few rows of a split have a score for, or whose data sets cannot be aligned.

    Args:
        manifest: The rows that take part.
        targets: Names of targets.
        splits: The split of each repeat.

    Raises:
        SplitError: As for `scored_rows`.
    """
    features = rows_without_features(manifest)
    for target in targets:
        for split in splits:
            scored_rows(features, target, split)


def recorded_datasets(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of several data sets, for `RunConfig.datasets`; none of a single one."""
    return manifest.datasets if len(manifest.datasets) > 1 else ()


def _head_options(
    inputs: FeatureStores | EncoderPair,
    options: FitOptions,
    training: TrainingOptions,
) -> dict[str, Any]:
    """Return every option of the head, and refuse those that its inputs do not allow."""
    head = resolve_options(
        options.estimator,
        options.recipe,
        inputs.architecture,
        options.head,
    )
    kinds = [*encoder_kinds(options.method, options.streams), *_score_kinds(inputs)]
    require_inputs(options.estimator, head, kinds)
    if training.values:
        head["validation_fraction"] = training.values["validation_fraction"]
    return head


def _add_starting_weights(
    plan: Plan,
    rows: Rows,
    run: Path,
) -> Plan:
    """Return the plan with the weights of the heads of another run, from which training starts."""
    if not isinstance(plan.inputs, FeatureStores):
        raise ProtocolError(
            "--start is for heads on stored features, and --finetune trains encoders: leave out one of "
            "the two"
        )
    start = Start.read(find_run(run))
    config = plan.config
    start.require_like(config)
    weights = start.weights(rows, config.targets, plan.splits, config.signatures)
    return replace(plan, config=replace(config, start=start.run), starts=weights)


def _config(
    manifest: Manifest,
    inputs: FeatureStores | EncoderPair,
    options: FitOptions,
    head: dict[str, Any],
    training: TrainingOptions,
    request: SplitRequest,
    repeats: int,
) -> RunConfig:
    stages: tuple[str, ...] = ()
    device = ""
    if isinstance(inputs, FeatureStores):
        stages = resolve_stages(options.stages, inputs.image_signatures)
        device = options.device if has_networks(options.estimator, head) else "cpu"
    return RunConfig(
        data=manifest.name,
        data_digest=manifest.digest,
        ratings_digest=manifest.ratings_digest,
        method=options.method,
        benchmark=options.rows,
        targets=resolve_targets(manifest, options.targets),
        signatures=inputs.signatures,
        streams=options.streams,
        stages=stages,
        split=request.name,
        repeats=repeats,
        seed=options.seed,
        seeds=options.seeds,
        recipe=options.recipe,
        estimator=options.estimator,
        head=head,
        head_defaults=options_at_default(options.estimator, options.recipe, inputs.architecture, head),
        finetune=training.values,
        finetune_defaults=training.at_default,
        models=options.models,
        templates=_templates(options),
        datasets=recorded_datasets(manifest),
        plugins=head_plugins(options.estimator),
        environment=Environment(device=device),
    )
