"""`tier score`: score a data set with a published zero-shot scorer."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.extract.scorers.choices import ScorerName
from tier4k.heads.commands.console import make_console, print_run
from tier4k.heads.commands.encoder_options import PrecisionOption
from tier4k.heads.commands.encoders import weight_folders
from tier4k.heads.commands.encoding import encode
from tier4k.heads.commands.loading import check_sources, require_prompts
from tier4k.heads.commands.options import (
    FEATURES,
    RUNS,
    AnyBenchmarkOption,
    FeaturesOption,
    OneDataArgument,
    OutOption,
    RatedRowsGroup,
    SpeedGroup,
    SplitGroup,
    TargetOption,
)

if TYPE_CHECKING:
    from tier4k.extract.datasets.choices import Benchmark
    from tier4k.extract.datasets.manifest import Manifest
    from tier4k.heads.protocol.zero_shot import ScoreOptions


def score(
    data: OneDataArgument,
    *,
    scorer: Annotated[
        ScorerName,
        typer.Option("--scorer", help="Scorer to use."),
    ],
    features: FeaturesOption = FEATURES,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights of the scorer: a checkpoint file, or a folder in the Hugging Face layout."
        ),
    ] = None,
    precision: PrecisionOption = None,
    benchmark: AnyBenchmarkOption = "all",
    target: TargetOption = None,
    splits: SplitGroup,
    rows: RatedRowsGroup,
    speed: SpeedGroup,
    out: OutOption = RUNS,
) -> None:
    """Score every row with a zero-shot scorer; evaluate it on all rows and on test rows of a split."""
    from tier4k.cache.store import FeatureStore
    from tier4k.extract.scorers.find import find_scorer
    from tier4k.heads.protocol.zero_shot import evaluate_scorer, plan_evaluation

    sources = rows.read([data])
    require_prompts(sources, ["text"], otherwise="")
    network = find_scorer(scorer, weights, weight_folders(sources), precision)
    console = make_console()
    report = check_sources(console, sources, features, rows.on_error)
    evaluations = _score_options(report.manifest, benchmark, target, splits)
    plans = [plan_evaluation(report.manifest, network.signature, options) for options in evaluations]
    encode(console, [data], features, report, [network], speed.extraction_options())
    store = FeatureStore.open(features / network.signature.folder_name)
    for plan in plans:
        print_run(console, evaluate_scorer(plan, store, out, sys.argv))


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
