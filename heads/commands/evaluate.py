"""`tier evaluate`: evaluate the heads of a run on another data set."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from tier4k.heads.commands.console import make_console, print_run
from tier4k.heads.commands.encoder_options import WeightsGroup
from tier4k.heads.commands.loading import IMAGE_RUN, check_sources, require_prompts
from tier4k.heads.commands.options import (
    FEATURES,
    RUNS,
    BenchmarkOption,
    FeaturesOption,
    OneDataArgument,
    OutOption,
    RatedRowsGroup,
    RepeatOption,
    RunArgument,
    SpeedGroup,
)
from tier4k.heads.commands.predict import predict_with_progress


def evaluate(
    run: RunArgument,
    data: OneDataArgument,
    *,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="TARGET=COLUMN: a target of the model, and the score column of DATA to compare it with. "
            "May be repeated.",
            show_default="columns with the name of a target",
        ),
    ] = None,
    benchmark: BenchmarkOption = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Map predictions linearly to the score column, so that the RMSE can be computed. "
            "The map of each prompt is fitted on other prompts. Correlations are those of the unmapped "
            "predictions.",
        ),
    ] = False,
    features: FeaturesOption = FEATURES,
    repeat: RepeatOption = None,
    weights: WeightsGroup,
    rows: RatedRowsGroup,
    speed: SpeedGroup,
    out: OutOption = RUNS,
) -> None:
    """Evaluate each head of a run on all rows of another data set."""
    from tier4k.heads.data.fusion import default_benchmark, require_valid_benchmark
    from tier4k.heads.protocol.cross_dataset import evaluate_model, match_targets
    from tier4k.heads.results.model import read_model

    model = read_model(run).only(repeat=repeat)
    selected = benchmark or default_benchmark(model.method)
    require_valid_benchmark(model.method, selected)
    console = make_console()
    sources = rows.read([data], model.reads_prompts)
    if model.reads_prompts:
        require_prompts(sources, ["text"], IMAGE_RUN)
    report = check_sources(console, sources, features, rows.on_error)
    pairs = match_targets(model, report.manifest, target or ())
    manifest = report.manifest.select(selected)
    options = speed.extraction_options()
    predicted = predict_with_progress(
        console,
        model,
        replace(report, manifest=manifest),
        features,
        weights,
        options,
    )
    evaluated = evaluate_model(
        model, manifest, predicted, pairs, selected, calibrate, features, out, sys.argv
    )
    print_run(console, evaluated)
