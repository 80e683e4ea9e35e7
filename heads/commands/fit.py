"""`tier fit-head`: stage 2, which fits and evaluates heads."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from tier4k.extract.encoders.choices import Precision
from tier4k.heads.commands import panels
from tier4k.heads.commands.completion import choices
from tier4k.heads.commands.console import Console, print_runs
from tier4k.heads.commands.data_options import (
    FEATURES,
    BenchmarkOption,
    DataArgument,
    FeaturesOption,
    RatedRowsGroup,
    TargetOption,
)
from tier4k.heads.commands.encoder_options import (
    EncodersGroup,
    ImageGroup,
    PresetOption,
    StagesOption,
    StreamsOption,
    TemplatesOption,
    WeightsGroup,
)
from tier4k.heads.commands.encoders import encoder_choice, find_encoder_pair
from tier4k.heads.commands.fit_options import DeviceOption, FitGroup, MethodOption, TrainingGroup
from tier4k.heads.commands.interruption import FIT, TRAINING, explain_interruption
from tier4k.heads.commands.loading import check_sources, load_with_stores, template_texts
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.run_options import RUNS, OutOption, found_run
from tier4k.heads.extraction.prompts import require_prompts
from tier4k.heads.finetuning.choices import Device
from tier4k.heads.results.choices import KeptModels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tier4k.extract.datasets.check import CheckedDataset
    from tier4k.extract.datasets.source import SourceTable
    from tier4k.heads.data.encoder_choice import EncoderChoice
    from tier4k.heads.data.stores import FeatureStores
    from tier4k.heads.protocol.options import FitOptions
    from tier4k.heads.results.run import Run

ScoreFeaturesOption = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Scorers whose scores are inputs: imagereward,…",
        show_default=False,
        rich_help_panel=panels.FEATURES,
    ),
]


def _known_part(part: str) -> str:
    """Return what --finetune names; refuse unknown parts before data and weights are read."""
    from tier4k.heads.finetuning.recipe import full_part

    if part != "none":
        full_part(part)
    return part


FinetuneOption = Annotated[
    str,
    typer.Option(
        metavar="PART",
        callback=_known_part,
        help="Encoders to train: image, text, all, last:N, lora:R.",
        autocompletion=choices(("none", "image", "text", "all", "last:", "lora", "lora:")),
        rich_help_panel=panels.END_TO_END,
    ),
]
StartOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        callback=found_run,
        help="Run whose heads are trained further.",
        rich_help_panel=panels.END_TO_END,
    ),
]
KeptModelsOption = Annotated[
    KeptModels | None,
    typer.Option(
        metavar="NAME",
        help="Heads to keep: all, first, none.",
        show_default="all; --finetune: first",
        rich_help_panel=panels.OUTPUT,
    ),
]


def fit_head(
    data: DataArgument,
    *,
    features: FeaturesOption = FEATURES,
    method: MethodOption = "nr",
    benchmark: BenchmarkOption = None,
    target: TargetOption = None,
    encoders: EncodersGroup,
    preset: PresetOption = None,
    images: ImageGroup,
    streams: StreamsOption = "all",
    stages: StagesOption = None,
    score_features: ScoreFeaturesOption = "",
    templates: TemplatesOption = None,
    fit: FitGroup,
    changes: TrainingGroup,
    finetune: FinetuneOption = "none",
    start: StartOption = None,
    weights: WeightsGroup,
    device: DeviceOption = "auto",
    models: KeptModelsOption = None,
    rows: RatedRowsGroup,
    out: OutOption = RUNS,
    printing: OutputGroup,
) -> None:
    """Fit and evaluate heads on stored features, or with encoders (--finetune)."""
    from tier4k.extract.datasets.streams import names_text
    from tier4k.heads.data.fusion import method_streams, require_valid_benchmark
    from tier4k.heads.regressors.mlp.device import fitting_device

    console = printing.console()
    options = replace(
        fit.fit_options(),
        method=method,
        benchmark=benchmark,
        targets=tuple(target or ("all",)),
        streams=method_streams(streams, method),
        stages=tuple(stages or ()),
        head=_head_options(changes),
        start=start,
    )
    if preset and finetune == "none":
        options = options.with_preset(preset, fit.head)
    options = replace(options, templates=template_texts(templates, options.interaction))
    require_valid_benchmark(options.method, options.rows)
    if finetune == "none":
        _require_no_weights(weights)
        options = replace(options, models=models or "all", device=fitting_device(device))
        choice = encoder_choice(encoders, images, preset)
        _fit_stored(console, data, features, choice, score_features, names_text(streams), options, rows, out)
        return
    _require_no_store_options(score_features, images)
    training_device = _training_device(device)
    options = _end_to_end_options(options, finetune, images.precision, models or "first")
    choice = encoder_choice(encoders, replace(images, precision=None), preset)
    if preset and not encoders.image_encoder:
        choice = replace(choice, images=choice.images[:1])  # of which one is trained
    needs_prompts = names_text(streams)
    _train_end_to_end(
        console, data, features, choice, weights, training_device, needs_prompts, options, rows, out
    )


def _require_no_store_options(score_features: str, images: ImageGroup) -> None:
    """Refuse options of stored features for end-to-end training."""
    if score_features:
        raise typer.BadParameter(
            "zero-shot scores can be inputs of heads on stored features only: leave out --finetune or "
            "--score-features",
            param_hint="--score-features",
        )
    if images.store_dtype:
        raise typer.BadParameter(
            "this option has no effect, as end-to-end training stores no features: leave it out, or pass "
            "no --finetune",
            param_hint="--store-dtype",
        )


def _fit_stored(
    console: Console,
    data: "Sequence[Path]",
    features: Path,
    choice: "EncoderChoice",
    score_features: str,
    needs_prompts: bool,
    options: "FitOptions",
    rows: RatedRowsGroup,
    out: Path,
) -> None:
    from tier4k.extract.scorers.called import depends_on_prompts
    from tier4k.extract.stores.find import find_score_stores, parse_scorer_names
    from tier4k.heads.data.fusion import used_streams

    scorers = parse_scorer_names(score_features)
    if score_features and not scorers:
        raise typer.BadParameter(f"{score_features!r} names no scorer", param_hint="--score-features")
    for store in find_score_stores(features, scorers):
        needs_prompts |= depends_on_prompts(store.signature)
    sources, options = _read_tables(data, rows, options, needs_prompts)
    choice = choice.for_streams(used_streams(options.method, options.streams), options.interaction)
    report, stores = load_with_stores(console, sources, features, choice, rows.on_error, scorers)
    print_runs(console, [fit_with_progress(console, report, stores, options, out)])


def _read_tables(
    data: "Sequence[Path]",
    rows: RatedRowsGroup,
    options: "FitOptions",
    needs_prompts: bool,
) -> "tuple[list[SourceTable], FitOptions]":
    """Read the tables of data sets; return the options with the streams that the tables have."""
    from tier4k.extract.datasets.source import have_prompts
    from tier4k.heads.data.fusion import existing_streams, needed_inputs

    inputs = needed_inputs(options.method, options.streams, options.interaction)
    sources = rows.read(data, needs_prompts or "text" in inputs)
    streams = existing_streams(options.method, options.streams, have_prompts(sources))
    inputs = needed_inputs(options.method, streams, options.interaction)
    require_prompts(sources, ("text", *inputs) if needs_prompts else inputs)
    return sources, replace(options, streams=streams)


def fit_with_progress(
    console: Console,
    report: "CheckedDataset",
    stores: "FeatureStores",
    options: "FitOptions",
    out: Path,
) -> "Run":
    """Fit heads on stored features and show the progress; see `tier4k.heads.protocol.fit.fit_head`."""
    from tier4k.heads.protocol.fit import fit_head

    with explain_interruption(FIT), console.task(f"fit {options.method} {options.rows}") as count:
        return fit_head(report.manifest, stores, options, out, sys.argv, count)


def _train_end_to_end(
    console: Console,
    data: "Sequence[Path]",
    features: Path,
    choice: "EncoderChoice",
    weights: WeightsGroup,
    device: Device,
    needs_prompts: bool,
    options: "FitOptions",
    rows: RatedRowsGroup,
    out: Path,
) -> None:
    from tier4k.extract.pipeline.allocator import keep_all_freed_memory
    from tier4k.heads.data.fusion import used_streams
    from tier4k.heads.finetuning.finetune import finetune

    sources, options = _read_tables(data, rows, options, needs_prompts)
    choice = choice.for_streams(used_streams(options.method, options.streams))
    pair = find_encoder_pair(sources, choice, weights)
    report = check_sources(console, sources, features, rows.on_error)
    with explain_interruption(TRAINING), console.tasks() as show, keep_all_freed_memory():
        run = finetune(report.manifest, pair, options, out, sys.argv, device, show, console.notes_once())
    print_runs(console, [run])


def _end_to_end_options(
    options: "FitOptions",
    finetune: str,
    precision: Precision | None,
    models: KeptModels,
) -> "FitOptions":
    """Return the options of end-to-end training; options of the head and of the training are separated."""
    from tier4k.heads.finetuning.recipe import separate_head_options

    head, training = separate_head_options(options.head)
    if precision and "precision" in training:
        raise typer.BadParameter("precision is set twice: pass it once", param_hint="--set")
    if precision:
        training["precision"] = precision
    return replace(options, head=head, training=training, finetune=finetune, models=models)


def _require_no_weights(weights: WeightsGroup) -> None:
    if weights.given:
        raise typer.BadParameter(
            "--image-weights and --text-weights apply to end-to-end training only: "
            "pass --finetune too, or leave them out",
            param_hint="--finetune",
        )


def _training_device(name: str) -> Device:
    if name not in get_args(Device):
        raise typer.BadParameter(
            f"--finetune cannot train on {name!r}: pass --device auto, which is a GPU if there is one "
            "(CUDA_VISIBLE_DEVICES chooses among several), or --device cpu",
            param_hint="--device",
        )
    return cast(Device, name)


def _head_options(changes: TrainingGroup) -> dict[str, Any]:
    """Return the options that replace those of the recipe, by name; values of --set are texts."""
    from tier4k.heads.regressors.options import OPTION_OF

    options = {
        "learning_rate": changes.learning_rate,
        "weight_decay": changes.weight_decay,
        "batch_size": changes.train_batch_size,
        "max_epochs": changes.epochs,
    }
    changed_options: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for text in changes.set_option or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(
                f"{text!r} is not of the form NAME=VALUE: pass, for example, hidden=256", param_hint="--set"
            )
        option = OPTION_OF.get(name, name)
        if option in changed_options:
            raise typer.BadParameter(f"{name} is set twice: pass it once", param_hint="--set")
        changed_options[option] = value
    return changed_options
