"""`tier predict`: score new images."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console, print_summaries
from tier4k.heads.commands.data_options import FEATURES, FeaturesOption, OnErrorOption, TableGroup
from tier4k.heads.commands.encoder_options import WeightsGroup
from tier4k.heads.commands.given import with_given_scores
from tier4k.heads.commands.loading import IMAGE_RUN
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.planning import plan_rows
from tier4k.heads.commands.reporter import ConsoleReporter
from tier4k.heads.commands.run_options import OneTargetOption, RepeatOption, TrustOption, found_run
from tier4k.heads.commands.score_options import GivenFeaturesOption
from tier4k.heads.commands.scoring import (
    LISTED,
    ScoresOption,
    require_addable_to,
    require_suffix_of,
    show_scores,
)
from tier4k.heads.commands.speed_options import EngineGroup
from tier4k.heads.extraction.prompts import require_prompts

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tier4k.extract.datasets.choices import OnError
    from tier4k.extract.datasets.inputs import PredictionInputs
    from tier4k.extract.datasets.problems import LeftOut
    from tier4k.extract.datasets.rows.source import RowSource
    from tier4k.extract.inputs.dataset import DatasetInputs
    from tier4k.extract.inputs.plan import Plan
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.heads.encoders.sources import EncoderSource
    from tier4k.heads.inference.score_rows import RowScorer
    from tier4k.heads.results.model import Model

NO_IMAGE_PROMPTS = (
    "--image-prompt has no effect, because the heads or the scorer of this run use no image prompts"
)

ScoringArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run (folder or digits), or an exported model.",
        callback=found_run,
    ),
]
InputsArgument = Annotated[
    list[str],
    typer.Argument(metavar="INPUTS", help="Images, a folder, or data as for extract."),
]

RunScorerWeightsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Weights of the scorer, if RUN is a run of score.",
        rich_help_panel=panels.HEAD,
    ),
]
NoStoreOption = Annotated[
    bool,
    typer.Option(
        "--no-store",
        help="Encode in memory, and keep no features.",
        rich_help_panel=panels.FEATURES,
    ),
]

PromptOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Text prompt of the images.",
        show_default=".txt beside each",
        rich_help_panel=panels.DATA,
    ),
]
ImagePromptOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Image prompt of the image files.",
        rich_help_panel=panels.DATA,
    ),
]


def predict(
    run: ScoringArgument,
    inputs: InputsArgument,
    *,
    prompt: PromptOption = None,
    image_prompt: ImagePromptOption = None,
    features: FeaturesOption = FEATURES,
    target: OneTargetOption = None,
    repeat: RepeatOption = None,
    encoder_weights: WeightsGroup,
    scores: GivenFeaturesOption = None,
    trust: TrustOption = None,
    weights: RunScorerWeightsOption = None,
    table: TableGroup,
    on_error: OnErrorOption = "stop",
    speed: EngineGroup,
    no_store: NoStoreOption = False,
    output: ScoresOption = None,
    printing: OutputGroup,
) -> None:
    """Score images with the heads of a run, with prediction intervals."""
    from tier4k.extract.scorers.called import depends_on_prompts
    from tier4k.heads.inference.planned_rows import rows_left_out, rows_of_plan
    from tier4k.heads.inference.predict import is_zero_shot, scorer_signature, stores_for
    from tier4k.heads.inference.scoring_model import scoring_model, scoring_scorer
    from tier4k.heads.results.read_model import read_model

    require_suffix_of(output)
    zero_shot = is_zero_shot(run)
    has_head_options = target is not None or repeat is not None or encoder_weights.given
    _require_matching_options(zero_shot, has_head_options, weights, scores)
    if no_store:
        _require_live_scoring(zero_shot, speed, scores)
    model = None if zero_shot else read_model(run, trust or ()).averaged(target, repeat)
    console = printing.console()
    needs_prompts = model.reads_prompts if model else depends_on_prompts(scorer_signature(run))
    read = _read_inputs(console, inputs, prompt, image_prompt, table, model, needs_prompts)
    plan = plan_rows(console, [read.source], features, on_error)
    stores = stores_for(model, features) if model else features
    if model and scores:
        model = _with_given_scores(console, model, scores, read.source, plan, stores, on_error)
    folder, trusted = read.source.folder, trust or ()
    sources = _sources(model, encoder_weights, folder, trusted) if model else []
    scoring = scoring_model(sources) if model else scoring_scorer(scorer_signature(run))
    require_addable_to(output, scoring)
    options = speed.extraction_options()
    scorer: RowScorer
    if no_store:
        scorer = _live_scorer(sources, plan.inputs, options)
    elif model:
        scorer = _head_scorer(console, sources, plan.inputs, stores, options, on_error)
    else:
        scorer = _pair_scorer(
            console, run, plan.inputs, features, weights, folder, options, on_error, trusted
        )
    batches = chain(rows_left_out(read.source, read.left_out), rows_of_plan(read.source, plan))
    show_scores(console, scorer, batches, len(read.left_out) + plan.rows, scoring, output, on_error)


def _read_inputs(
    console: Console,
    inputs: "Sequence[str]",
    prompt: str | None,
    image_prompt: Path | None,
    table: TableGroup,
    model: "Model | None",
    needs_prompts: bool,
) -> "PredictionInputs":
    """Read the inputs for heads, or for a scorer (no model), and print which of them are left out.

    Raises:
        DataError: The inputs cannot be read, or lack the text prompts that are needed.
    """
    from tier4k.extract.datasets.inputs import read_inputs

    if image_prompt and not (model and model.reads_image_prompts):
        console.warn(NO_IMAGE_PROMPTS)
    read = read_inputs(inputs, prompt, image_prompt, needs_prompts, table.choice)
    _print_left_out(console, read.left_out)
    if needs_prompts:
        require_prompts([read.source], ["text"], IMAGE_RUN if model else "")
    return read


def _with_given_scores(
    console: Console,
    model: "Model",
    scores: Path,
    source: "RowSource",
    plan: "Plan",
    features: Path,
    on_error: "OnError",
) -> "Model":
    """Store scores of another program for the usable rows of a plan; see `with_given_scores`."""
    import numpy as np

    from tier4k.heads.inference.planned_rows import rows_of_plan

    names: list[str] = []
    places: list[str] = []
    pairs: list[np.ndarray] = []
    for rows in rows_of_plan(source, plan):
        usable = [number for number in range(len(rows)) if number not in rows.reasons]
        kept = rows.take(np.array(usable, np.int64))
        names += kept.names
        places += kept.images
        pairs.append(kept.keys.pairs)
    joined = np.concatenate(pairs)
    return with_given_scores(console, model, scores, names, places, joined, plan.inputs, features, on_error)


def _sources(
    model: "Model",
    weights: WeightsGroup,
    data: Path,
    trusted: "Collection[str]",
) -> "list[EncoderSource]":
    """Return the heads of a model with their encoders, which may lie beside the data."""
    from tier4k.extract.weights.files import search_folders
    from tier4k.heads.encoders.sources import encoder_sources

    folders = search_folders(data)
    return encoder_sources(model, weights.image_weights, weights.text_weights, folders, trusted)


def _live_scorer(
    sources: "Sequence[EncoderSource]",
    inputs: "DatasetInputs",
    options: "ExtractionOptions",
) -> "RowScorer":
    """Return heads with their encoders, which score in memory."""
    from tier4k.heads.inference.live_heads import LiveRows
    from tier4k.heads.inference.predict import require_image_prompts

    require_image_prompts(inputs, sources[0].model)
    return LiveRows(sources, options)


def _head_scorer(
    console: Console,
    sources: "Sequence[EncoderSource]",
    inputs: "DatasetInputs",
    features: Path,
    options: "ExtractionOptions",
    on_error: "OnError",
) -> "RowScorer":
    """Encode missing inputs, and return heads that score stored features."""
    from tier4k.heads.inference.predict import encode_for_heads
    from tier4k.heads.inference.row_scorers import StoredHeads

    with ConsoleReporter(console).encoding() as listener:
        summaries = encode_for_heads(sources, inputs, features, options, listener, on_error)
    print_summaries(console, summaries)
    return StoredHeads([source.model for source in sources], features)


def _pair_scorer(
    console: Console,
    run: Path,
    inputs: "DatasetInputs",
    features: Path,
    weights: Path | None,
    data: Path,
    options: "ExtractionOptions",
    on_error: "OnError",
    trusted: "Collection[str]",
) -> "RowScorer":
    """Compute missing scores of pairs, and return what reads them. Weights may lie beside the data."""
    from tier4k.extract.weights.files import search_folders
    from tier4k.heads.inference.predict import encode_pairs, scorer_signature
    from tier4k.heads.inference.row_scorers import StoredPairScores

    beside = search_folders(data)
    with ConsoleReporter(console).encoding() as listener:
        summaries = encode_pairs(run, inputs, features, options, listener, weights, beside, on_error, trusted)
    print_summaries(console, summaries)
    return StoredPairScores(scorer_signature(run), features)


def _require_matching_options(
    zero_shot: bool,
    has_head_options: bool,
    scorer_weights: Path | None,
    scores: Path | None,
) -> None:
    """Refuse options of heads for a scorer, and options of a scorer for heads."""
    if zero_shot and scores:
        raise typer.BadParameter(
            "these scores are for heads that use them as features, and a run of `tier score` has no heads: "
            "leave them out",
            param_hint="--scores",
        )
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


def _require_live_scoring(
    zero_shot: bool,
    speed: EngineGroup,
    scores: Path | None,
) -> None:
    """Refuse --no-store where scores need stores."""
    if scores:
        raise typer.BadParameter(
            "the scores of --scores are read from their store: leave out --no-store",
            param_hint="--no-store",
        )
    if zero_shot:
        raise typer.BadParameter(
            "a run of `tier score` keeps no features, only a number for each pair of image and prompt: leave "
            "the option out",
            param_hint="--no-store",
        )
    if speed.engine == "ray":
        raise typer.BadParameter(
            "Ray's processes hand over features through stores: leave out --no-store or --engine ray",
            param_hint="--no-store",
        )


def _print_left_out(console: Console, left_out: "Sequence[LeftOut]") -> None:
    """Print the images that have no prompt, before work begins."""
    for image in left_out[:LISTED]:
        console.warn(f"Left out: {image}")
    if len(left_out) > LISTED:
        console.warn(f"… and {len(left_out) - LISTED:,} more images without a prompt")
