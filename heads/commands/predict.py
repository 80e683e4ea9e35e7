"""`tier predict`: score new images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands.console import make_console, print_line, print_summaries
from tier4k.heads.commands.loading import check_source
from tier4k.heads.commands.options import (
    FEATURES,
    FeaturesOption,
    OnErrorOption,
    OneTargetOption,
    RepeatOption,
    SpeedGroup,
    WeightsGroup,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from rich.console import Console

    from tier4k.extract.datasets.check import CheckedDataset
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.heads.results.model import HeadKey, Model

LISTED = 40  # scores shown on the terminal

ScoringArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder of a run that kept its heads, of an exported model, or of a run of `tier score`."
    ),
]
InputsArgument = Annotated[
    list[Path],
    typer.Argument(help="Images, or a table or data set, or a folder with a .txt prompt beside each image."),
]


def predict(
    run: ScoringArgument,
    inputs: InputsArgument,
    *,
    prompt: Annotated[
        str | None,
        typer.Option(help="Text prompt of the images."),
    ] = None,
    image_prompt: Annotated[
        Path | None,
        typer.Option(help="Image prompt of the images."),
    ] = None,
    features: FeaturesOption = FEATURES,
    target: OneTargetOption = None,
    repeat: RepeatOption = None,
    encoder_weights: WeightsGroup,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights of the scorer of a run of `tier score`."),
    ] = None,
    on_error: OnErrorOption = "stop",
    speed: SpeedGroup,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write: .csv, .jsonl or .json."),
    ] = None,
) -> None:
    """Score images with the heads of a run: mean over its repeats, conformal interval, and spread."""
    from tier4k.extract.datasets.inputs import read_inputs
    from tier4k.heads.inference.predict import is_zero_shot, require_score_suffix
    from tier4k.heads.results.model import read_model, score_table

    if output:
        require_score_suffix(output)
    zero_shot = is_zero_shot(run)
    of_heads = target is not None or repeat is not None or encoder_weights.given
    _require_fitting(zero_shot, of_heads, weights)
    model = None if zero_shot else read_model(run).only(target, repeat)
    console = make_console()
    if image_prompt and (model is None or model.method == "nr"):
        console.print("this run scores without image prompts: --image-prompt changes nothing", style="yellow")
    report = check_source(console, read_inputs(inputs, prompt, image_prompt), features, on_error)
    options = speed.extraction_options()
    if model:
        predicted = predict_with_progress(console, model, report, features, encoder_weights, options)
    else:
        predicted = _predict_zero_shot(console, run, report, features, weights, options)
    names = report.manifest.table["name"].tolist()
    scores = score_table(names, predicted, model.half_widths if model else {})
    _print_and_write(console, scores, len(names), output)


def predict_with_progress(
    console: "Console",
    model: "Model",
    report: "CheckedDataset",
    features: Path,
    weights: WeightsGroup,
    options: "ExtractionOptions",
) -> "dict[HeadKey, np.ndarray]":
    """Return the scores (N,) of every head of a model for the rows of a data set; encode what is not stored.

    Raises:
        TierError: An image prompt or weights are missing, or something cannot be encoded.
    """
    from tier4k.extract.encoders.weights import search_folders
    from tier4k.extract.pipeline.progress import ConsoleListener
    from tier4k.heads.encoders.sources import encoder_sources
    from tier4k.heads.inference.predict import predict

    folders = search_folders(report.manifest.data)
    found = encoder_sources(model, weights.image_weights, weights.text_weights, folders)
    with ConsoleListener(console) as listener:
        predicted, summaries = predict(found, report.manifest, features, options, listener)
    print_summaries(console, summaries)
    return predicted


def _predict_zero_shot(
    console: "Console",
    run: Path,
    report: "CheckedDataset",
    features: Path,
    weights: Path | None,
    options: "ExtractionOptions",
) -> "dict[HeadKey, np.ndarray]":
    from tier4k.extract.pipeline.progress import ConsoleListener
    from tier4k.heads.inference.predict import predict_zero_shot

    with ConsoleListener(console) as listener:
        predicted, summaries = predict_zero_shot(run, report.manifest, features, options, listener, weights)
    print_summaries(console, summaries)
    return predicted


def _require_fitting(
    zero_shot: bool,
    of_heads: bool,
    scorer_weights: Path | None,
) -> None:
    """Refuse options of heads for a scorer, and options of a scorer for heads."""
    if zero_shot and of_heads:
        raise typer.BadParameter(
            "the run of a scorer has no heads and no encoders: leave these options out",
            param_hint="--target / --repeat / --…-weights",
        )
    if scorer_weights and not zero_shot:
        raise typer.BadParameter(
            "this run has heads: give --image-weights or --text-weights",
            param_hint="--weights",
        )


def _print_and_write(
    console: "Console",
    scores: "pd.DataFrame",
    count: int,
    output: Path | None,
) -> None:
    from tier4k.heads.inference.predict import write_scores
    from tier4k.heads.reporting.terminal import score_listing

    console.print(score_listing(scores, LISTED))
    if count > LISTED:
        remedy = "" if output else ": -o FILE.csv writes all"
        console.print(f"… and {count - LISTED:,} more{remedy}")
    if output:
        write_scores(scores, output)
        print_line(console, f"{output}: {count:,} images")
