"""`tier predict`: score new images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands.console import make_console, print_line, print_summaries
from tier4k.heads.commands.encoder_options import WeightsGroup
from tier4k.heads.commands.loading import IMAGE_RUN, check_sources, require_prompts
from tier4k.heads.commands.options import (
    FEATURES,
    FeaturesOption,
    OnErrorOption,
    OneTargetOption,
    RepeatOption,
    SpeedGroup,
    TableGroup,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from rich.console import Console

    from tier4k.extract.datasets.check import CheckedDataset
    from tier4k.extract.datasets.inputs import LeftOut
    from tier4k.extract.datasets.problems import Problem
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.heads.results.model import HeadKey, Model

NO_IMAGE_PROMPTS = (
    "--image-prompt has no effect, because the heads or the scorer of this run use no image prompts"
)

LISTED = 40  # number of images whose scores are shown on the terminal

ScoringArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder of a run that kept its heads, of an exported model, or of a run of `tier score`."
    ),
]
InputsArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Image files, a table, a data set, or a folder with images. Without --prompt or a table, the "
        "prompt of an image is in a .txt file beside it. Heads without a text stream need no prompts."
    ),
]


def predict(
    run: ScoringArgument,
    inputs: InputsArgument,
    *,
    prompt: Annotated[
        str | None,
        typer.Option(help="Text prompt of the image files."),
    ] = None,
    image_prompt: Annotated[
        Path | None,
        typer.Option(help="Image prompt of the image files."),
    ] = None,
    features: FeaturesOption = FEATURES,
    target: OneTargetOption = None,
    repeat: RepeatOption = None,
    encoder_weights: WeightsGroup,
    weights: Annotated[
        Path | None,
        typer.Option(help="If RUN is a run of `tier score`: weights of its scorer."),
    ] = None,
    table: TableGroup,
    on_error: OnErrorOption = "stop",
    speed: SpeedGroup,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write: .csv, .jsonl or .json."),
    ] = None,
) -> None:
    """Score images with the heads of a run: show mean over the repeats, conformal interval and spread."""
    from tier4k.extract.datasets.inputs import read_inputs
    from tier4k.heads.inference.predict import is_zero_shot, require_score_suffix
    from tier4k.heads.results.model import read_model, score_table

    if output:
        require_score_suffix(output)
    zero_shot = is_zero_shot(run)
    has_head_options = target is not None or repeat is not None or encoder_weights.given
    _require_matching_options(zero_shot, has_head_options, weights)
    model = None if zero_shot else read_model(run).averaged(target, repeat)
    console = make_console()
    if image_prompt and not (model and model.reads_image_prompts):
        print_line(console, NO_IMAGE_PROMPTS, style="yellow")
    needs_prompts = not model or model.reads_prompts
    read = read_inputs(inputs, prompt, image_prompt, needs_prompts, table.choice)
    _print_left_out(console, read.left_out)
    if needs_prompts:
        require_prompts([read.source], ["text"], IMAGE_RUN if model else "")
    report = check_sources(console, [read.source], features, on_error)
    options = speed.extraction_options()
    if model:
        predicted = predict_with_progress(console, model, report, features, encoder_weights, options)
    else:
        predicted = _predict_zero_shot(console, run, report, features, weights, options)
    names = report.manifest.table["name"].tolist()
    scores = score_table(names, predicted, model.half_widths if model else {})
    _print_scores(console, scores, len(names), output)
    if output:
        _write_scores(console, scores, len(names), [*read.left_out, *_skipped(report)], output)


def predict_with_progress(
    console: "Console",
    model: "Model",
    report: "CheckedDataset",
    features: Path,
    weights: WeightsGroup,
    options: "ExtractionOptions",
) -> "dict[HeadKey, np.ndarray]":
    """Return the scores (N,) of every head of a model for the rows of a data set; encode missing inputs.

    Raises:
        TierError: An image prompt or weights are missing, or an input cannot be encoded.
    """
    from tier4k.extract.pipeline.progress import ConsoleListener
    from tier4k.extract.weights.files import search_folders
    from tier4k.heads.encoders.sources import encoder_sources
    from tier4k.heads.inference.predict import predict

    folders = search_folders(report.manifest.data)
    sources = encoder_sources(model, weights.image_weights, weights.text_weights, folders)
    with ConsoleListener(console) as listener:
        predicted, summaries = predict(sources, report.manifest, features, options, listener)
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


def _require_matching_options(
    zero_shot: bool,
    has_head_options: bool,
    scorer_weights: Path | None,
) -> None:
    """Refuse options of heads for a scorer, and options of a scorer for heads."""
    if zero_shot and has_head_options:
        raise typer.BadParameter(
            "these options select heads or encoders, and a run of `tier score` has neither: leave them out",
            param_hint="--target / --repeat / --…-weights",
        )
    if scorer_weights and not zero_shot:
        raise typer.BadParameter(
            "--weights is for runs of `tier score`, and this run has heads: "
            "pass --image-weights or --text-weights instead",
            param_hint="--weights",
        )


def _print_left_out(console: "Console", left_out: "Sequence[LeftOut]") -> None:
    """Print the images that have no prompt, before work begins."""
    for image in left_out[:LISTED]:
        print_line(console, f"Left out: {image}", style="yellow")
    if len(left_out) > LISTED:
        print_line(console, f"… and {len(left_out) - LISTED:,} more images without a prompt", style="yellow")


def _skipped(report: "CheckedDataset") -> "list[LeftOut]":
    """Return the rows that `--on-error skip` leaves out, with their problems."""
    from tier4k.extract.datasets.inputs import LeftOut

    problems: dict[int, list[Problem]] = {}
    for problem in report.problems:
        problems.setdefault(problem.row, []).append(problem)
    left_out = []
    for of_row in problems.values():
        name = of_row[0].name or f"line {of_row[0].line}"
        left_out.append(LeftOut(name, "; ".join(problem.message for problem in of_row)))
    return left_out


def _write_scores(
    console: "Console",
    scores: "pd.DataFrame",
    count: int,
    left_out: "Sequence[LeftOut]",
    output: Path,
) -> None:
    """Write the scores of `count` images, and the images that are left out, to a file."""
    from tier4k.heads.inference.predict import with_left_out, write_scores

    write_scores(with_left_out(scores, left_out), output)
    rest = f", and {len(left_out):,} left out with the reason" if left_out else ""
    print_line(console, f"{output}: {count:,} images{rest}")


def _print_scores(
    console: "Console",
    scores: "pd.DataFrame",
    count: int,
    output: Path | None,
) -> None:
    from tier4k.heads.reporting.terminal import score_listing

    console.print(score_listing(scores, LISTED))
    if count > LISTED:
        remedy = "" if output else ": pass -o FILE.csv to write all scores"
        console.print(f"… and {count - LISTED:,} more images{remedy}")
