"""`tier score`: score a data set with a scorer, or evaluate scores that another program computed."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tier4k.extract.scorers.choices import ScorerName
from tier4k.heads.commands import panels
from tier4k.heads.commands.completion import choices
from tier4k.heads.commands.console import Console, print_runs
from tier4k.heads.commands.data_options import (
    FEATURES,
    AnyBenchmarkOption,
    FeaturesOption,
    RatedRowsGroup,
    RowsGroup,
    TargetOption,
)
from tier4k.heads.commands.encoder_options import PrecisionOption
from tier4k.heads.commands.encoders import weight_folders
from tier4k.heads.commands.encoding import encode
from tier4k.heads.commands.fit_options import SplitGroup
from tier4k.heads.commands.given import join
from tier4k.heads.commands.loading import check_sources
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.planning import plan_rows
from tier4k.heads.commands.run_options import RUNS, OutOption
from tier4k.heads.commands.score_options import GivenScoresGroup, LowerIsBetterOption
from tier4k.heads.commands.scoring import ScoresOption, require_addable_to, require_suffix_of, show_scores
from tier4k.heads.commands.speed_options import EngineGroup
from tier4k.heads.extraction.prompts import require_prompts

if TYPE_CHECKING:
    from tier4k.cache.store import FeatureStore
    from tier4k.extract.datasets.choices import Benchmark, OnError
    from tier4k.extract.datasets.manifest import Manifest
    from tier4k.extract.datasets.source import DataSource, SourceTable
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.extract.scorers.find import AnyScorer
    from tier4k.heads.protocol.zero_shot import EvaluationPlan, ScoreOptions

ScorerOption = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        metavar="NAME",
        help=f"{', '.join(get_args(ScorerName))}, pyiqa:NAME.",
        autocompletion=choices((*get_args(ScorerName), "pyiqa:")),
        rich_help_panel=panels.SCORES,
    ),
]
ScorerWeightsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Weights of the scorer.",
        show_default="searched",
        rich_help_panel=panels.SCORES,
    ),
]


def score(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="A folder or table (.csv, …); with -o also archives, URLs."),
    ],
    *,
    scorer: ScorerOption = None,
    given: GivenScoresGroup,
    features: FeaturesOption = FEATURES,
    weights: ScorerWeightsOption = None,
    precision: PrecisionOption = None,
    lower_is_better: LowerIsBetterOption = False,
    benchmark: AnyBenchmarkOption = "all",
    target: TargetOption = None,
    splits: SplitGroup,
    rows: RatedRowsGroup,
    speed: EngineGroup,
    output: ScoresOption = None,
    out: OutOption = RUNS,
    printing: OutputGroup,
) -> None:
    """Score every row with a scorer, and evaluate the scores.

    With --scores the scores are those of another program. With -o the scores of all rows are written to a
    file instead, and DATA needs no ratings.
    """
    from tier4k.extract.scorers.find import find_scorer
    from tier4k.heads.protocol.zero_shot import evaluate_scorer

    console = printing.console()
    given.require_or_scorer(scorer, output, has_network_options=bool(weights or precision))
    choose = partial(find_scorer, scorer or "", weights, precision=precision, lower_is_better=lower_is_better)
    if output:
        _require_no_evaluation(target, benchmark, splits)
        _write_scores(console, data, scorer, choose, features, rows, speed.extraction_options(), output)
        return
    sources = rows.read([Path(data)], needs_prompts=scorer is not None)
    _require_ratings(sources[0])
    _require_prompts(sources, scorer)
    network = choose(weight_folders(sources)) if scorer else None
    manifest = check_sources(console, sources, features, rows.on_error).manifest
    evaluations = _score_options(manifest, benchmark, target, splits)
    if network:
        options = speed.extraction_options()
        store, plans = _compute_scores(console, data, manifest, network, features, options, evaluations)
    else:
        store, plans = _store_given_scores(
            console, manifest, given, lower_is_better, features, rows.on_error, evaluations
        )
    print_runs(console, [evaluate_scorer(plan, store, out, sys.argv) for plan in plans])


def _compute_scores(
    console: Console,
    data: str,
    manifest: "Manifest",
    network: "AnyScorer",
    features: Path,
    options: "ExtractionOptions",
    evaluations: "Sequence[ScoreOptions]",
) -> "tuple[FeatureStore, list[EvaluationPlan]]":
    """Compute missing scores; return their store and the planned runs."""
    from tier4k.cache.store import FeatureStore
    from tier4k.extract.inputs.dataset import DatasetInputs
    from tier4k.heads.protocol.zero_shot import plan_evaluation

    plans = [plan_evaluation(manifest, network.signature, evaluation) for evaluation in evaluations]
    encode(console, [data], features, DatasetInputs.of(manifest), [network], options)
    return FeatureStore.open(features / network.signature.folder_name), plans


def _store_given_scores(
    console: Console,
    manifest: "Manifest",
    given: GivenScoresGroup,
    lower_is_better: bool,
    features: Path,
    on_error: "OnError",
    evaluations: "Sequence[ScoreOptions]",
) -> "tuple[FeatureStore, list[EvaluationPlan]]":
    """Store the scores of another program; return their store and the planned runs."""
    from tier4k.extract.inputs.dataset import DatasetInputs
    from tier4k.extract.scorers.given import read_score_table
    from tier4k.extract.scorers.given_scores import GivenScores, require_name
    from tier4k.heads.data.features import RowKeys
    from tier4k.heads.protocol.zero_shot import plan_evaluation

    assert given.scores is not None
    assert given.name is not None
    require_name(given.name)
    table = read_score_table(given.scores, given.score_column, [given.name])
    names, places = manifest.table["name"].tolist(), manifest.table["image"].tolist()
    pairs = RowKeys.of(manifest).pairs
    joined = join(console, table, names, places, pairs, features, on_error)
    scores = GivenScores.of(given.name, table.score_column, pairs, joined.scores, lower_is_better)
    plans = [
        plan_evaluation(manifest, scores.signature, evaluation, scores.keys) for evaluation in evaluations
    ]
    return scores.store(features, DatasetInputs.of(manifest)), plans


def _require_prompts(sources: "Sequence[DataSource]", scorer: str | None) -> None:
    """Refuse tables without prompts for a scorer that reads them, before its weights are searched."""
    from tier4k.extract.scorers.find import reads_prompts

    if scorer and reads_prompts(scorer):
        require_prompts(sources, ["text"], otherwise="")


def _require_no_evaluation(
    target: list[str] | None,
    benchmark: "Benchmark",
    splits: SplitGroup,
) -> None:
    """Refuse options of the evaluation where scores are only written."""
    if target or benchmark != "all" or splits != SplitGroup():
        raise typer.BadParameter(
            "options of the evaluation have no effect with -o, which writes the scores of all rows: leave "
            "them out, or run `tier score` once more without -o, which scores nothing again",
            param_hint="--target / --benchmark / --split / --repeats / --folds / --seed",
        )


def _require_ratings(source: "SourceTable") -> None:
    """Refuse data without ratings, with which scores are evaluated.

    Raises:
        DataError: There is no column of ratings.
    """
    from tier4k.extract.datasets.errors import DataError

    if not source.targets:
        raise DataError(
            f"{source.path} has no ratings, so that scores cannot be evaluated: pass -o FILE, which writes "
            "the scores, or name a column of ratings with --columns mos=COLUMN"
        )


def _write_scores(
    console: Console,
    data: str,
    scorer: str | None,
    choose: "Callable[[Sequence[Path]], AnyScorer]",
    features: Path,
    rows: RowsGroup,
    options: "ExtractionOptions",
    output: Path,
) -> None:
    """Score all rows of a data set in any form, and write the scores."""
    from tier4k.extract.datasets.rows.open import open_rows
    from tier4k.heads.inference.planned_rows import rows_of_plan
    from tier4k.heads.inference.row_scorers import StoredPairScores
    from tier4k.heads.inference.scoring_model import scoring_scorer

    require_suffix_of(output)
    source = open_rows(data, rows.choice, needs_prompts=True)
    _require_prompts([source], scorer)
    network = choose(weight_folders([source]))
    scoring = scoring_scorer(network.signature)
    require_addable_to(output, scoring)
    plan = plan_rows(console, [source], features, rows.on_error)
    encode(console, [data], features, plan.inputs, [network], options, on_error=rows.on_error)
    scores = StoredPairScores(network.signature, features)
    show_scores(console, scores, rows_of_plan(source, plan), plan.rows, scoring, output, rows.on_error)


def _score_options(
    manifest: "Manifest",
    benchmark: "Benchmark",
    target: list[str] | None,
    splits: SplitGroup,
) -> "tuple[ScoreOptions, ScoreOptions]":
    """Return the options of two evaluations: on all rows, and on the test rows of a split."""
    from tier4k.heads.protocol.zero_shot import ScoreOptions

    all_rows = ScoreOptions(benchmark, tuple(target or ("all",)))
    test_rows = replace(all_rows, split=splits.fit_options().split_request(manifest.select(benchmark)))
    return all_rows, test_rows
