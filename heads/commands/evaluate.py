"""`tier evaluate`: evaluate the heads of a run on another data set."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console, print_runs, print_summaries
from tier4k.heads.commands.data_options import (
    FEATURES,
    BenchmarkOption,
    FeaturesOption,
    OneDataArgument,
    RatedRowsGroup,
)
from tier4k.heads.commands.encoder_options import WeightsGroup
from tier4k.heads.commands.given import with_given_scores
from tier4k.heads.commands.loading import IMAGE_RUN, check_sources
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.reporter import ConsoleReporter
from tier4k.heads.commands.run_options import RUNS, OutOption, RepeatOption, RunArgument, TrustOption
from tier4k.heads.commands.score_options import GivenFeaturesOption
from tier4k.heads.commands.speed_options import SpeedGroup
from tier4k.heads.extraction.prompts import require_prompts

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import numpy as np

    from tier4k.extract.datasets.check import CheckedDataset
    from tier4k.extract.datasets.manifest import Manifest
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.heads.results.model import HeadKey, Model

TargetColumnsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TARGET=COLUMN",
        help="Score column for a target.",
        show_default="same name",
        rich_help_panel=panels.DATA,
    ),
]
CalibrateOption = Annotated[
    bool,
    typer.Option(
        "--calibrate",
        help="Map predictions linearly to the score column, for the RMSE.",
        rich_help_panel=panels.PROTOCOL,
    ),
]


def evaluate(
    run: RunArgument,
    data: OneDataArgument,
    *,
    target: TargetColumnsOption = None,
    benchmark: BenchmarkOption = None,
    calibrate: CalibrateOption = False,
    features: FeaturesOption = FEATURES,
    repeat: RepeatOption = None,
    weights: WeightsGroup,
    scores: GivenFeaturesOption = None,
    trust: TrustOption = None,
    rows: RatedRowsGroup,
    speed: SpeedGroup,
    out: OutOption = RUNS,
    printing: OutputGroup,
) -> None:
    """Evaluate each head of a run on all rows of another data set."""
    from tier4k.heads.data.fusion import default_benchmark, require_valid_benchmark
    from tier4k.heads.inference.predict import stores_for
    from tier4k.heads.protocol.cross_dataset import evaluate_model, match_targets
    from tier4k.heads.results.read_model import read_model

    model = read_model(run, trust or ()).only(repeat=repeat)
    selected = benchmark or default_benchmark(model.method)
    require_valid_benchmark(model.method, selected)
    console = printing.console()
    sources = rows.read([data], model.reads_prompts)
    if model.reads_prompts:
        require_prompts(sources, ["text"], IMAGE_RUN)
    report = check_sources(console, sources, features, rows.on_error)
    pairs = match_targets(model, report.manifest, target or ())
    manifest = report.manifest.select(selected)
    stores = stores_for(model, features)
    if scores:
        model = _with_given_scores(console, model, scores, manifest, stores)
    options = speed.extraction_options()
    predicted = _predict_with_progress(
        console,
        model,
        replace(report, manifest=manifest),
        stores,
        weights,
        options,
        trust or (),
    )
    evaluated = evaluate_model(
        model, manifest, predicted, pairs, selected, calibrate, features, out, sys.argv
    )
    print_runs(console, [evaluated])


def _with_given_scores(
    console: Console,
    model: "Model",
    scores: "Path",
    manifest: "Manifest",
    features: "Path",
) -> "Model":
    """Store scores of another program for all rows of a data set; see `with_given_scores`."""
    from tier4k.extract.inputs.dataset import DatasetInputs
    from tier4k.heads.data.features import RowKeys

    names, places = manifest.table["name"].tolist(), manifest.table["image"].tolist()
    pairs, dataset = RowKeys.of(manifest).pairs, DatasetInputs.of(manifest)
    return with_given_scores(console, model, scores, names, places, pairs, dataset, features, "stop")


def _predict_with_progress(
    console: Console,
    model: "Model",
    report: "CheckedDataset",
    features: "Path",
    weights: WeightsGroup,
    options: "ExtractionOptions",
    trusted: "Collection[str]",
) -> "dict[HeadKey, np.ndarray]":
    """Return the scores (N,) of every head of a model for the rows of a data set; encode missing inputs.

    Raises:
        TierError: An image prompt or weights are missing, or an input cannot be encoded.
    """
    from tier4k.extract.weights.files import search_folders
    from tier4k.heads.encoders.sources import encoder_sources
    from tier4k.heads.inference.predict import predict

    folders = search_folders(report.manifest.data)
    sources = encoder_sources(model, weights.image_weights, weights.text_weights, folders, trusted)
    with ConsoleReporter(console).encoding() as listener:
        predicted, summaries = predict(sources, report.manifest, features, options, listener)
    print_summaries(console, summaries)
    return predicted
