"""The command line: parses options, calls one function per command, prints. Everything heavy is imported inside the commands."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperGroup

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import Benchmark, LayoutName, OnError
from tier4k.extract.encoders.choices import (
    DEFAULT_IMAGE_ENCODER,
    DEFAULT_TEXT_ENCODER,
    FeatureName,
    Precision,
    PresetName,
)
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.scorers.choices import ScorerName
from tier4k.extract.stores.choices import HOURS_IN_USE
from tier4k.heads.data.choices import Method
from tier4k.heads.finetuning.choices import Device
from tier4k.heads.regressors.choices import HeadName, RecipeName
from tier4k.heads.reporting.choices import ComparedMetric, Part
from tier4k.heads.results.choices import KeptModels
from tier4k.heads.sweeps.choices import SweepName

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from tier4k.cache.store import FeatureStore
    from tier4k.extract.datasets.check import Report
    from tier4k.extract.datasets.layouts import SourceTable
    from tier4k.extract.encoders.choice import ImageChoice
    from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
    from tier4k.extract.images.crops import Crops
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.extract.pipeline.work import Encoder
    from tier4k.heads.protocol.options import FitOptions
    from tier4k.heads.protocol.publish import Run
    from tier4k.heads.results.model import Model
    from tier4k.heads.sweeps.grid import Cell


class TierGroup(TyperGroup):
    """Ends with exit code 2 and a message where the user can mend something, with 130 after Ctrl-C; never with a traceback for these."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except TierError as error:
            _error(str(error))
            return ctx.exit(2)
        except KeyboardInterrupt:
            _error(
                "interrupted. What was finished is stored, epochs of --finetune too; the same command does the rest."
            )
            return ctx.exit(130)


app = typer.Typer(
    name="tier",
    cls=TierGroup,
    help="Score AI-generated pictures as people do: extract features once, fit TIER heads on them in seconds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at data sets.", no_args_is_help=True)
store_app = typer.Typer(help="Look at feature stores.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")

DataArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder in the PKU-AIGIQA-4K or AGIQA-3K layout, or a .csv, .xlsx or .parquet table."
    ),
]
FeaturesOption = Annotated[Path, typer.Option("--features", "-F", help="Folder of feature stores.")]
LayoutOption = Annotated[
    LayoutName | None, typer.Option("--layout", help="Layout of DATA. Default: recognised by its columns.")
]
OnErrorOption = Annotated[
    OnError, typer.Option("--on-error", help="Rows with problems: stop before any work, or skip them.")
]
ENCODERS = "resnet18, resnet50, inceptionv4, vit, efficientnet-lite0, or timm:NAME."
ImageEncoderOption = Annotated[
    str | None, typer.Option("--image-encoder", help=ENCODERS, show_default=DEFAULT_IMAGE_ENCODER)
]
TextEncoderOption = Annotated[
    str, typer.Option("--text-encoder", help="bert-base-uncased, minilm, or hf:NAME_OR_PATH.")
]
PrepareOption = Annotated[
    PreprocessingName | None,
    typer.Option(
        "--preprocessing",
        help="Prepare pictures as TIER-4K (reference) or as in training (native). Default: the encoder's own.",
    ),
]
PresetOption = Annotated[
    PresetName | None,
    typer.Option(
        "--preset", help="Options that were measured to serve well together; single ones still override it."
    ),
]
FeatureOption = Annotated[
    FeatureName | None,
    typer.Option(
        "--feature",
        help="The network's pooled output, as published, or mean and deviation of every stage (multilevel).",
    ),
]
StagesOption = Annotated[
    str,
    typer.Option(
        "--stages", metavar="LIST", help="Stages of multilevel features to use, such as 3,4 or stage5,head."
    ),
]
ImageSizeOption = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="N|full",
        help="Read whole pictures, shorter side N pixels or their own size, without a crop.",
    ),
]
PrecisionOption = Annotated[
    Precision | None, typer.Option("--precision", help="Arithmetic of the encoders. Default: fp32.")
]
MethodOption = Annotated[
    Method,
    typer.Option("--method", help="No-reference, full-reference (I2I only) or partial-reference fusion."),
]
BenchmarkOption = Annotated[
    Benchmark | None,
    typer.Option(
        "--benchmark", help="Rows with an image prompt, without, or all. Default: I2I for fr, else all."
    ),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", help="Score column; may be repeated. Default: all.", show_default=False),
]
SplitOption = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="RULE|FILE[:N]",
        help="prompt (none in both parts), random (by row), generator (one left out), published (i % 4 == 3), or a splits.json; "
        "FILE:N is its repeat N alone.",
    ),
]
RepeatsOption = Annotated[
    int | None,
    typer.Option(
        "--repeats", min=1, help="Repeats, each with its own seed. Default: 10, or one per generator."
    ),
]
FoldsOption = Annotated[
    int | None, typer.Option("--folds", min=2, help="K-fold: K repeats whose test parts share out the rows.")
]
SeedsOption = Annotated[
    int,
    typer.Option(
        "--seeds", min=1, help="Heads fitted on each split, to tell chance in training from the split."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the first repeat.")]
HeadOption = Annotated[
    HeadName,
    typer.Option("--head", help="TIER's two layers (mlp), or another regression on the fused vector."),
]
RecipeOption = Annotated[
    RecipeName,
    typer.Option("--recipe", help="Suited to stored features (cached), or TIER-4K's settings (published)."),
]
ImageWeightsOption = Annotated[
    Path | None,
    typer.Option("--image-weights", help="Weights of the image encoder: .pth, .safetensors or .npz."),
]
TextWeightsOption = Annotated[
    Path | None,
    typer.Option("--text-weights", help="Folder of the text encoder, as Hugging Face lays it out."),
]
ModelsOption = Annotated[
    KeptModels, typer.Option("--models", help="Fitted heads to keep: of all repeats, of the first, or none.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of runs.")]
RunArgument = Annotated[
    Path, typer.Argument(help="Folder of a run that kept its heads, or of an exported model.")
]
ScoringArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder of a run that kept its heads, of an exported model, or of a run of `tier score`."
    ),
]
OneTargetOption = Annotated[str | None, typer.Option("--target", help="One score alone.", show_default="all")]
RepeatOption = Annotated[
    int | None,
    typer.Option("--repeat", help="The head of one repeat alone.", show_default="the mean over all"),
]
BatchSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Views per batch. Default: the fastest, found by measuring.")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=0, help="Processes that read pictures. Default: one per core, at most 8.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
FEATURES = Path("features")
LISTED = 40  # scores of pictures on the terminal


@data_app.command("check")
def data_check(
    data: DataArgument,
    layout: LayoutOption = None,
    problems: Annotated[Path | None, typer.Option(help="Write every problem to this CSV file.")] = None,
    text_encoder: TextEncoderOption = DEFAULT_TEXT_ENCODER,
) -> None:
    """Check every row and every picture of DATA and print a summary. Problems give exit code 2."""
    from tier4k.extract.datasets.check import check
    from tier4k.extract.datasets.summary import summarize, summary_table

    console = _console()
    with _counting(console, "check pictures") as count:
        report = check(data, layout, progress=count)
    console.print(summary_table(summarize(report, text_encoder)))
    if problems:
        report.write_problems(problems)
    if report.problems:
        raise report.error()
    console.print(f"No problems in {len(report.manifest):,} rows.", style="green")


@app.command()
def extract(
    data: DataArgument,
    features: FeaturesOption = FEATURES,
    image_encoder: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{ENCODERS} May be repeated: pictures are read once.", show_default=DEFAULT_IMAGE_ENCODER
        ),
    ] = None,
    text_encoder: TextEncoderOption = DEFAULT_TEXT_ENCODER,
    image_weights: ImageWeightsOption = None,
    text_weights: TextWeightsOption = None,
    finetuned: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Use the encoders of a run of `fit-head --finetune`.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Score column whose encoders of that run are meant.")
    ] = None,
    repeat: Annotated[
        int | None, typer.Option(min=0, help="Which repeat's. Default: the first that was kept.")
    ] = None,
    preset: PresetOption = None,
    feature: FeatureOption = None,
    preprocessing: PrepareOption = None,
    image_size: ImageSizeOption = None,
    crops: Annotated[
        int | None, typer.Option(min=0, help="Random crops and flips stored beside the centre view.")
    ] = None,
    crops_seed: Annotated[int, typer.Option(min=0, help="Seed of the views.")] = 0,
    precision: PrecisionOption = None,
    layout: LayoutOption = None,
    on_error: OnErrorOption = "stop",
    batch_size: BatchSizeOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile the networks: minutes first, faster then.")
    ] = False,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Encode the I-th of N parts, to share the work among N machines."),
    ] = "1/1",
) -> None:
    """Stage 1: encode every picture and prompt of DATA that is not stored yet."""
    from tier4k.extract.datasets.layouts import read_source
    from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
    from tier4k.extract.encoders.weights import search_folders
    from tier4k.extract.images.crops import Crops
    from tier4k.extract.pipeline.options import ExtractionOptions, default_workers

    options = ExtractionOptions(
        workers=default_workers() if workers is None else workers,
        batch_size=batch_size,
        device=device,
        compiled=compiled,
        part=_part(shard),
    )
    if finetuned:
        if any(
            (
                image_encoder,
                image_weights,
                text_weights,
                preset,
                feature,
                preprocessing,
                image_size,
                crops,
                precision,
            )
        ):
            raise typer.BadParameter(
                "the run says what its encoders are: leave the other options of encoders out",
                param_hint="--finetuned",
            )
        _extract_finetuned(_console(), data, features, finetuned, target, repeat, layout, on_error, options)
        return
    if target is not None or repeat is not None:
        raise typer.BadParameter(
            "they say which encoders of a run are meant: give --finetuned as well",
            param_hint="--target / --repeat",
        )
    folders = search_folders(read_source(data, layout).path.parent)
    names: list[str | None] = list(dict.fromkeys(image_encoder)) if image_encoder else [None]
    if image_weights and len(names) > 1:
        raise typer.BadParameter(
            "one file of weights for several encoders: run one command for each", param_hint="--image-weights"
        )
    if crops_seed and not crops:
        raise typer.BadParameter(
            "there are no crops to seed: give --crops as well", param_hint="--crops-seed"
        )
    seeded = None if crops is None else Crops(crops, crops_seed if crops else 0)
    choices = [_choice(preset, name, preprocessing, image_size, feature, precision, seeded) for name in names]
    images = [find_image_encoder(choice, image_weights, folders) for choice in choices]
    text = find_text_encoder(text_encoder, text_weights, folders, choices[0].precision)
    _extract(_console(), data, features, [*images, text], layout, on_error, options)


@store_app.command("ls")
def store_ls(features: FeaturesOption = FEATURES) -> None:
    """Show every feature store: rows, size, type, age, and the data sets that it holds completely."""
    from tier4k.extract.stores.listing import store_table

    console = _console()
    console.print(store_table(features))
    _show_broken(console, features)


@store_app.command("verify")
def store_verify(
    features: FeaturesOption = FEATURES,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set damaged shards aside, so that extract refills the gap.")
    ] = False,
) -> None:
    """Read every shard of every feature store and compare it with its checksum. Damage that is not repaired gives exit code 2."""
    from tier4k.cache.store import StoreError, require_stores
    from tier4k.cache.verify import set_aside, verify

    console, damaged = _console(), 0
    for store in require_stores(features):
        found = verify(store)
        console.print(
            f"{store.path.name}: {found.sound:,} shards with {found.rows:,} rows are sound", soft_wrap=True
        )
        for why in found.damaged.values():
            console.print(why, style="red", soft_wrap=True)
        for path in set_aside(found) if repair else ():
            console.print(f"set aside as {path}; run `tier extract` again", style="yellow", soft_wrap=True)
        damaged += len(found.damaged)
    broken = _show_broken(console, features)
    if damaged and not repair:
        raise StoreError(
            f"{damaged} damaged shards: `tier store verify --features {features} --repair` sets them aside"
        )
    if broken:
        raise StoreError(f"{broken} stores cannot be opened: restore or delete these folders")


@store_app.command("compact")
def store_compact(features: FeaturesOption = FEATURES) -> None:
    """Make one shard of the many of every store, without doubles. Others may read and extract meanwhile."""
    from tier4k.cache.compact import compact
    from tier4k.cache.store import require_stores

    console = _console()
    for store in require_stores(features):
        done = compact(store)
        console.print(
            f"{store.path.name}: {done.shards:,} shards became {min(done.shards, 1)}, {done.rows:,} rows, {done.doubles:,} doubles removed",
            soft_wrap=True,
        )
    _show_broken(console, features)


@store_app.command("gc")
def store_gc(
    features: FeaturesOption = FEATURES,
    runs: Annotated[
        list[Path] | None, typer.Option(help="Folders of runs whose stores are kept.", show_default="runs")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it. Without this, only show it.")] = False,
    older_than: Annotated[
        float, typer.Option(min=0, help="Hours. Stores with a younger file stay.")
    ] = HOURS_IN_USE,
) -> None:
    """Show what nobody needs: old stores that no data set and no run uses, and shards that were set aside."""
    from tier4k.cache.store import discarded, require_stores
    from tier4k.extract.stores.garbage import remove, review
    from tier4k.heads.results.files import used_stores

    if not discarded(features):
        require_stores(features)
    for folder in runs or []:
        if not folder.is_dir():
            raise typer.BadParameter(
                f"there is no folder {folder}: the stores of its runs would be called unused",
                param_hint="--runs",
            )
    console, folders = _console(), runs or [Path("runs")]
    used = frozenset[str]().union(*(used_stores(folder) for folder in folders))
    listed = ", ".join(map(str, folders))
    console.print(
        f"Runs looked at: {sum(len(list(folder.glob('*/config.json'))) for folder in folders):,} in {listed}",
        soft_wrap=True,
    )
    garbage = []
    for one in review(features, used, older_than):
        state, why = "kept" if one.kept else "unused", one.why
        if delete and not one.kept:
            state, why = ("removed", why) if remove(one) else ("kept", "it was written to just now")
        if state != "kept":
            garbage.append(one)
        console.print(f"{state} {one.path} ({one.megabytes:,.1f} MB): {why}", soft_wrap=True)
    total = f"{sum(one.megabytes for one in garbage):,.1f} MB in {len(garbage)} places"
    console.print(
        f"{total} {'removed' if delete else 'can be removed: repeat with --delete'}."
        if garbage
        else "Everything is in use."
    )


@store_app.command("export")
def store_export(
    store: Annotated[str, typer.Argument(help="Folder of one store, or its name in --features.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .npz or .parquet.")],
    features: FeaturesOption = FEATURES,
) -> None:
    """Write the features of one store with their keys and names, for other programs."""
    from tier4k.cache.export import export
    from tier4k.cache.store import FeatureStore
    from tier4k.extract.pipeline.records import input_names

    folder = Path(store) if Path(store).is_dir() else features / store
    opened = FeatureStore.open(folder)
    rows = export(opened, output, input_names(folder.parent, opened.signature.stream))
    _console().print(f"{output}: {rows:,} rows of {folder.name}", soft_wrap=True)


@app.command("fit-head")
def fit_head(
    data: DataArgument,
    features: FeaturesOption = FEATURES,
    method: MethodOption = "nr",
    benchmark: BenchmarkOption = None,
    target: TargetOption = None,
    image_encoder: ImageEncoderOption = None,
    text_encoder: TextEncoderOption = DEFAULT_TEXT_ENCODER,
    preset: PresetOption = None,
    feature: FeatureOption = None,
    stages: StagesOption = "all",
    preprocessing: PrepareOption = None,
    image_size: ImageSizeOption = None,
    precision: PrecisionOption = None,
    score_features: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Scorers whose stored scores the head sees as well, such as imagereward,pickscore.",
        ),
    ] = "",
    split: SplitOption = "prompt",
    repeats: RepeatsOption = None,
    folds: FoldsOption = None,
    seed: SeedOption = 0,
    seeds: SeedsOption = 1,
    head: HeadOption = "mlp",
    recipe: RecipeOption = "cached",
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Instead of the recipe's.")] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, help="Instead of the recipe's.")] = None,
    train_batch_size: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    set_option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other option of the head or of the training, such as --set hidden=256.",
        ),
    ] = None,
    finetune: Annotated[
        str,
        typer.Option(
            metavar="none|image|text|all|last:N",
            help="Train encoders too, end to end: which, or their last N stages or blocks.",
        ),
    ] = "none",
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Train the heads of this run on, such as one that finetuned the encoders."
        ),
    ] = None,
    image_weights: ImageWeightsOption = None,
    text_weights: TextWeightsOption = None,
    device: Annotated[Device, typer.Option(help="Where --finetune trains.")] = "auto",
    models: Annotated[
        KeptModels | None,
        typer.Option(
            help="Fitted heads to keep: of all repeats, of the first, or none. Default: all; with --finetune first."
        ),
    ] = None,
    layout: LayoutOption = None,
    on_error: OnErrorOption = "stop",
    out: OutOption = Path("runs"),
) -> None:
    """Stage 2: fit and evaluate TIER's head on stored features, or train it end to end with its encoders (--finetune)."""
    from tier4k.extract.encoders.levels import parse_level_names
    from tier4k.extract.stores.find import find_score_stores, parse_scorer_names
    from tier4k.heads.data.fusion import default_benchmark, require_possible
    from tier4k.heads.data.split_files import parse_split
    from tier4k.heads.finetuning.recipe import split_options
    from tier4k.heads.protocol.options import FitOptions

    named = {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "batch_size": train_batch_size,
        "max_epochs": epochs,
    }
    named = {name: value for name, value in named.items() if value is not None}
    given = _head_options(set_option or (), named)
    of_head, of_training = (given, {}) if finetune == "none" else split_options(given)
    if finetune != "none" and precision:
        of_training["precision"] = precision
    options = FitOptions(
        method=method,
        benchmark=benchmark or default_benchmark(method),
        targets=tuple(target or ("all",)),
        stages=parse_level_names(stages),
        split=parse_split(split),
        repeats=repeats,
        folds=folds,
        seed=seed,
        seeds=seeds,
        recipe=recipe,
        estimator=head,
        head=of_head,
        models=models or ("all" if finetune == "none" else "first"),
        finetune=finetune,
        training=of_training,
        start=start,
    )
    require_possible(options.method, options.benchmark)
    choice = _choice(
        preset, image_encoder, preprocessing, image_size, feature, precision if finetune == "none" else None
    )
    console = _console()
    if finetune != "none":
        if score_features:
            raise typer.BadParameter(
                "zero-shot scores are for heads on stored features: leave --finetune out",
                param_hint="--score-features",
            )
        image, text = _encoders(data, layout, choice, text_encoder, image_weights, text_weights)
        report = _load(console, data, features, layout, on_error)
        _show(console, _finetune(console, report, image, text, options, out, device))
        return
    if image_weights or text_weights or device != "auto":
        raise typer.BadParameter(
            "weights and --device are for training end to end: give --finetune as well",
            param_hint="--finetune",
        )
    options = replace(options, zero_shot=find_score_stores(features, parse_scorer_names(score_features)))
    stored = _stored(console, data, features, choice, text_encoder, layout, on_error)
    _show(console, _fit(console, *stored, options, out))


@app.command()
def split(
    data: DataArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .json, for --split of fit-head and sweep.")
    ],
    rule: SplitOption = "prompt",
    benchmark: Annotated[
        Benchmark, typer.Option("--benchmark", help="Rows with an image prompt, without, or all.")
    ] = "all",
    repeats: RepeatsOption = None,
    folds: FoldsOption = None,
    seed: SeedOption = 0,
    layout: LayoutOption = None,
    on_error: OnErrorOption = "stop",
) -> None:
    """Write who is in training, validation and test, to be used again or elsewhere."""
    from tier4k.cache.atomic import require_suffix
    from tier4k.heads.data.features import Rows
    from tier4k.heads.data.split_files import parse_split, write_splits
    from tier4k.heads.data.splits import VALIDATION_SHARE, SplitError
    from tier4k.heads.protocol.options import FitOptions
    from tier4k.heads.protocol.plan import splits_of

    require_suffix(output, (".json",), SplitError)
    console = _console()
    report = _load(console, data, FEATURES, layout, on_error)
    rows = Rows.of(report.manifest.select(benchmark))
    splits = splits_of(
        rows, FitOptions(split=parse_split(rule), repeats=repeats, folds=folds, seed=seed), VALIDATION_SHARE
    )
    write_splits(output, rows, splits)
    first = splits[0]
    sizes = f"{len(first.train)} training, {len(first.validation)} validation and {len(first.test)} test rows in the first"
    console.print(f"{output}: {len(splits)} repeats, {sizes}", soft_wrap=True)


@app.command()
def predict(
    run: ScoringArgument,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures, or a table or data set, or a folder with a .txt prompt beside each picture."
        ),
    ],
    prompt: Annotated[str | None, typer.Option(help="Text prompt of the pictures.")] = None,
    image_prompt: Annotated[Path | None, typer.Option(help="Their image prompt.")] = None,
    features: FeaturesOption = FEATURES,
    target: OneTargetOption = None,
    repeat: RepeatOption = None,
    image_weights: ImageWeightsOption = None,
    text_weights: TextWeightsOption = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the scorer of a run of `tier score`.")
    ] = None,
    on_error: OnErrorOption = "stop",
    batch_size: BatchSizeOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .csv, .jsonl or .json.")
    ] = None,
) -> None:
    """Score pictures with the heads of a run: the mean over its repeats, a conformal interval, and the spread over the heads."""
    from tier4k.cache.atomic import require_suffix
    from tier4k.extract.datasets.inputs import read_inputs
    from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
    from tier4k.heads.inference.predict import SUFFIXES, PredictionError, is_zero_shot, write_scores
    from tier4k.heads.reporting.terminal import score_listing
    from tier4k.heads.results.model import read_model, score_table

    if output:
        require_suffix(output, SUFFIXES, PredictionError)
    zero_shot, console = is_zero_shot(run), _console()
    if zero_shot and (target is not None or repeat is not None or image_weights or text_weights):
        raise typer.BadParameter(
            "a scorer has no heads and no encoders of its own: leave these out",
            param_hint="--target / --repeat / --…-weights",
        )
    if weights and not zero_shot:
        raise typer.BadParameter(
            "this run has heads: give --image-weights or --text-weights", param_hint="--weights"
        )
    model = None if zero_shot else read_model(run).only(target, repeat)
    if image_prompt and (model is None or model.method == "nr"):
        console.print("this run scores without image prompts: --image-prompt changes nothing", style="yellow")
    source = read_inputs(inputs, prompt, image_prompt)
    options = ExtractionOptions(default_workers() if workers is None else workers, batch_size, device=device)
    report = _checked(console, source, features, on_error)
    if model:
        predicted = _predicted(console, model, report, features, image_weights, text_weights, options)
    else:
        predicted = _predicted_zero_shot(console, run, report, features, weights, options)
    names = report.manifest.table["name"].tolist()
    scores = score_table(names, predicted, model.half_widths if model else {})
    console.print(score_listing(scores, LISTED))
    if len(names) > LISTED:
        console.print(f"… and {len(names) - LISTED:,} more" + ("" if output else ": -o FILE.csv writes all"))
    if output:
        write_scores(scores, output)
        console.print(f"{output}: {len(names):,} pictures", soft_wrap=True)


@app.command()
def evaluate(
    run: RunArgument,
    data: DataArgument,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="MINE=THEIRS: a score of the model and the column it is compared with.",
            show_default="equal names",
        ),
    ] = None,
    benchmark: BenchmarkOption = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Map scores linearly, fitted on other prompts: gives an RMSE.")
    ] = False,
    features: FeaturesOption = FEATURES,
    repeat: RepeatOption = None,
    image_weights: ImageWeightsOption = None,
    text_weights: TextWeightsOption = None,
    layout: LayoutOption = None,
    on_error: OnErrorOption = "stop",
    batch_size: BatchSizeOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    out: OutOption = Path("runs"),
) -> None:
    """Judge the heads of a run, one by one, on all rows of another data set. SRCC and PLCC need no common scale."""
    from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
    from tier4k.heads.data.fusion import default_benchmark, require_possible
    from tier4k.heads.protocol.cross_dataset import evaluate_model, match_targets, overlap
    from tier4k.heads.results.model import read_model

    model, console = read_model(run).only(repeat=repeat), _console()
    part = benchmark or default_benchmark(model.method)
    require_possible(model.method, part)
    report = _load(console, data, features, layout, on_error)
    pairs = match_targets(model, report.manifest, target or ())
    selected = replace(report, manifest=report.manifest.select(part))
    options = ExtractionOptions(default_workers() if workers is None else workers, batch_size, device=device)
    predicted = _predicted(console, model, selected, features, image_weights, text_weights, options)
    judged = evaluate_model(model, selected.manifest, predicted, pairs, part, calibrate, out, sys.argv)
    _show(console, judged)
    shared = overlap(model, selected.manifest, features)
    if shared is None:
        console.print(
            f"whether the model has seen some of these cannot be told: {features} has no record of its data",
            style="yellow",
        )
    elif shared.pictures or shared.prompts:
        seen = f"{shared.pictures:,} pictures and {shared.prompts:,} prompts of these"
        console.print(
            f"{seen} are of the data set that the model was fitted on: the figures may be too good",
            style="yellow",
        )


@app.command("export")
def export_model(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(help="New folder to write.")],
    target: OneTargetOption = None,
    repeat: RepeatOption = None,
    image_weights: ImageWeightsOption = None,
    text_weights: TextWeightsOption = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write ONNX files too, checked with ONNX Runtime (tier4k[onnx]).")
    ] = False,
) -> None:
    """Write a model that travels: heads, encoders, intervals and a model card in one folder, which loads offline anywhere."""
    from tier4k.heads.encoders.sources import sources
    from tier4k.heads.inference.export import export
    from tier4k.heads.results.model import read_model

    model = read_model(run).only(target, repeat)
    differences = export(sources(model, image_weights, text_weights), folder, onnx)
    console = _console()
    for name, difference in differences.items():
        console.print(
            f"{folder / 'onnx' / name}.onnx: differs from torch by {difference:.1e} at most", soft_wrap=True
        )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    console.print(f"{folder}: {len(model.heads)} heads with their encoders, {size:,.1f} MB", soft_wrap=True)


@app.command()
def score(
    data: DataArgument,
    scorer: Annotated[ScorerName, typer.Option("--scorer", help="Published scorer.")],
    features: FeaturesOption = FEATURES,
    weights: Annotated[
        Path | None, typer.Option(help="Its checkpoint, or a folder as Hugging Face lays it out.")
    ] = None,
    precision: PrecisionOption = None,
    benchmark: Annotated[
        Benchmark, typer.Option("--benchmark", help="Rows with an image prompt, without, or all.")
    ] = "all",
    target: TargetOption = None,
    split: SplitOption = "prompt",
    repeats: RepeatsOption = None,
    folds: FoldsOption = None,
    seed: SeedOption = 0,
    layout: LayoutOption = None,
    on_error: OnErrorOption = "stop",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures per batch. Default: the fastest, found by measuring.")
    ] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    out: OutOption = Path("runs"),
) -> None:
    """Score every row with a published zero-shot scorer, once, and judge it on all rows and on the test rows of a split."""
    from tier4k.extract.datasets.layouts import read_source
    from tier4k.extract.encoders.weights import search_folders
    from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
    from tier4k.extract.scorers.find import find_scorer
    from tier4k.heads.data.split_files import parse_split

    console = _console()
    found = find_scorer(scorer, weights, search_folders(read_source(data, layout).path.parent), precision)
    options = ExtractionOptions(default_workers() if workers is None else workers, batch_size, device=device)
    report = _load(console, data, features, layout, on_error)

    from tier4k.heads.protocol.zero_shot import ScoreOptions, evaluate_scorer, plan_evaluation

    of_all = ScoreOptions(benchmark, tuple(target or ("all",)))
    of_split = replace(of_all, split=parse_split(split), repeats=repeats, folds=folds, seed=seed)
    plans = [plan_evaluation(report.manifest, found.signature, judged) for judged in (of_all, of_split)]
    _encode(console, data, features, report, [found], options)

    from tier4k.cache.store import FeatureStore

    store = FeatureStore.open(features / found.signature.folder_name)
    for plan in plans:
        _show(console, evaluate_scorer(plan, store, out, sys.argv))


@app.command()
def sweep(
    data: DataArgument,
    features: FeaturesOption = FEATURES,
    preset: Annotated[
        SweepName | None,
        typer.Option(
            "--preset",
            help="The paper's table: FR and NR on I2I, NR on T2I, NR and PR on all rows, for every target.",
        ),
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", help="TOML file: values, or lists of them, of fit-head's options."),
    ] = None,
    image_encoder: ImageEncoderOption = None,
    text_encoder: TextEncoderOption = DEFAULT_TEXT_ENCODER,
    feature: FeatureOption = None,
    preprocessing: PrepareOption = None,
    image_size: ImageSizeOption = None,
    precision: PrecisionOption = None,
    split: SplitOption = "prompt",
    repeats: RepeatsOption = None,
    folds: FoldsOption = None,
    seed: SeedOption = 0,
    seeds: SeedsOption = 1,
    head: HeadOption = "mlp",
    recipe: RecipeOption = "cached",
    models: ModelsOption = "none",
    layout: LayoutOption = None,
    on_error: OnErrorOption = "stop",
    out: OutOption = Path("runs"),
    jobs: Annotated[int, typer.Option(min=1, help="Processes that fit at once; they share the cores.")] = 1,
    search: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Try so many combinations of the grid, each chosen by Optuna from the held-out SRCC of those before.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Table to write: .csv, .parquet, .xlsx or .tex.")
    ] = None,
) -> None:
    """Fit many heads: the paper's table, or every combination of a grid. Runs that are there already are not fitted again."""
    from tier4k.heads.data.split_files import parse_split
    from tier4k.heads.protocol.options import FitOptions
    from tier4k.heads.reporting.tables import require_table_suffix, write_table
    from tier4k.heads.reporting.tidy import sweep_table, tidy
    from tier4k.heads.sweeps.grid import Cell, grid_cells, paper_cells, read_grid
    from tier4k.heads.sweeps.run import run_sweep

    if (preset is None) == (grid is None):
        raise typer.BadParameter("give either --preset paper or --grid FILE", param_hint="--preset / --grid")
    if search and (grid is None or jobs > 1):
        raise typer.BadParameter(
            "needs --grid FILE, and one process: each trial follows from those before", param_hint="--search"
        )
    if output:
        require_table_suffix(output)
    options = FitOptions(
        split=parse_split(split),
        repeats=repeats,
        folds=folds,
        seed=seed,
        seeds=seeds,
        recipe=recipe,
        estimator=head,
        models=models,
    )
    base = Cell(
        _choice(None, image_encoder, preprocessing, image_size, feature, precision), text_encoder, options
    )
    console, wanted = _console(), read_grid(grid) if grid else {}
    report = _load(console, data, features, layout, on_error)
    if search:
        runs = _search(console, report, features, wanted, base, search, out)
    else:
        cells, impossible = (
            grid_cells(wanted, report.manifest, base) if grid else (paper_cells(report.manifest, base), 0)
        )
        if impossible:
            console.print(
                f"{impossible} combinations left out: full reference (fr) needs an image prompt in every row",
                style="yellow",
            )
        with _counting(console, "sweep") as count:
            runs = list(run_sweep(report.manifest, features, cells, out, sys.argv, jobs, count))
        console.print(sweep_table(tidy([run.folder for run in runs])))
    there = sum(run.found for run in runs)
    seconds = sum(run.results.seconds for run in runs if not run.found)
    console.print(
        f"{len(runs)} runs in {out}, {there} of them there already; the others were fitted in {seconds:.1f} s",
        soft_wrap=True,
    )
    if output:
        write_table(tidy([run.folder for run in runs]), output)
        console.print(
            f"{output}: every figure, one a line" if output.suffix != ".tex" else f"{output}: SRCC and PLCC",
            soft_wrap=True,
        )


@app.command()
def table(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, such as runs/*.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write: .csv, .parquet, .xlsx, or without --by .tex for a paper."
        ),
    ] = None,
    by: Annotated[
        Part | None, typer.Option("--by", help="Break the results down by generator, or by I2I and T2I rows.")
    ] = None,
) -> None:
    """Show the figures of runs as one table, or what they reach within each part of their test rows; with -o, write them."""
    from tier4k.heads.reporting.breakdown import breakdown, breakdown_notes, breakdown_table
    from tier4k.heads.reporting.tables import require_table_suffix, write_table
    from tier4k.heads.reporting.tidy import sweep_table, tidy

    if output is not None:
        require_table_suffix(output)
        if by and output.suffix == ".tex":
            raise typer.BadParameter(
                "a breakdown is written as .csv, .parquet or .xlsx", param_hint="--output"
            )
    console = _console()
    frame = breakdown(runs, by) if by else tidy(runs)
    console.print(breakdown_table(frame, runs) if by else sweep_table(frame))
    for line in breakdown_notes(frame) if by else ():
        console.print(line)
    if output is None:
        return
    write_table(frame, output)
    console.print(f"{output}: {frame['run'].nunique()} runs", soft_wrap=True)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of two runs or more with the same test rows.")],
    metric: Annotated[ComparedMetric, typer.Option(help="Figure to compare.")] = "srcc",
) -> None:
    """Compare runs in pairs on their test rows: difference, 95 % interval, p-values with Holm's correction.

    Beside the paired bootstrap over prompts stands, in SRCC and PLCC, Williams' test, which takes pictures of one prompt to be independent.
    """
    from string import ascii_uppercase

    from tier4k.heads.reporting.comparison import compare as compare_runs
    from tier4k.heads.reporting.terminal import comparison_notes, comparison_table, described
    from tier4k.heads.reporting.tidy import run_labels
    from tier4k.heads.results.results import Results

    names = [
        ascii_uppercase[number] if number < len(ascii_uppercase) else str(number)
        for number in range(len(runs))
    ]
    comparisons = compare_runs(runs, metric)
    console = _console()
    apart = run_labels(runs, known=("method", "head", "benchmark", "data", "split", "run"))
    for name, run in zip(names, runs, strict=True):
        found = Results.read(run)
        told = ", ".join(filter(None, (described(found), f"split {found.split}", apart[run.resolve()])))
        console.print(f"{name}  {told}: {run}", soft_wrap=True)
    console.print(comparison_table(comparisons, names))
    for line in comparison_notes(comparisons, names):
        console.print(line)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, such as runs/*.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write: .html.")] = Path(
        "report.html"
    ),
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Data set that holds the pictures; may be repeated.", show_default="what the runs recorded"
        ),
    ] = None,
    pictures: Annotated[
        int,
        typer.Option(
            min=0, help="Thumbnails in the page at most: the largest errors, then the first repeats."
        ),
    ] = 400,
) -> None:
    """Write one page with the tables, plots and pictures of runs, which opens anywhere without a network."""
    from tier4k.heads.reporting.html.page import write_report

    console = _console()
    with _counting(console, "report") as count:
        page = write_report(runs, output, data or (), pictures, count)
    size = f"{page.size / 1e6:.1f} MB, {page.pictures:,} of {page.test_pictures:,} test pictures"
    console.print(f"{page.path}: {size}", soft_wrap=True)


@app.command("features")
def fused_features(
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .npz or .parquet.")],
    features: FeaturesOption = FEATURES,
    method: MethodOption = "nr",
    benchmark: BenchmarkOption = None,
    image_encoder: ImageEncoderOption = None,
    text_encoder: TextEncoderOption = DEFAULT_TEXT_ENCODER,
    preset: PresetOption = None,
    feature: FeatureOption = None,
    stages: StagesOption = "all",
    preprocessing: PrepareOption = None,
    image_size: ImageSizeOption = None,
    precision: PrecisionOption = None,
    layout: LayoutOption = None,
    on_error: OnErrorOption = "stop",
) -> None:
    """Write the fused matrix X (N, d) with names, groups, generators and scores, for models of your own."""
    from tier4k.extract.encoders.levels import Levels, parse_level_names
    from tier4k.heads.data.features import load_features
    from tier4k.heads.data.fused_matrix import require_matrix_suffix, save_matrix
    from tier4k.heads.data.fusion import default_benchmark, fuse, require_possible

    part = benchmark or default_benchmark(method)
    require_possible(method, part)
    require_matrix_suffix(output)
    choice = _choice(preset, image_encoder, preprocessing, image_size, feature, precision)
    console = _console()
    report, images, texts = _stored(console, data, features, choice, text_encoder, layout, on_error)
    chosen = (
        Levels.parse(images.signature.feature).named(parse_level_names(stages))
        if parse_level_names(stages)
        else ()
    )
    rows = load_features(report.manifest.select(part), images, texts, chosen)
    fused = fuse(rows, method)
    save_matrix(output, rows, fused)
    console.print(
        f"{output}: X {fused.shape[0]} x {fused.shape[1]} {fused.dtype}, targets {', '.join(rows.target_names) or 'none'}"
    )


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(help="Folder for the sample data, its features and its runs.")
    ] = Path("demo"),
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of each fit.")] = 3,
) -> None:
    """Write a synthetic sample data set, extract its features, and fit NR, FR and PR heads."""
    from tier4k.extract.datasets.sample import write_sample
    from tier4k.extract.encoders.choice import ImageChoice
    from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder

    console = _console()
    data, features = write_sample(folder), folder / "features"
    console.print(
        f"Sample data: {data}. It is synthetic, scenes drawn by this program with scores from a formula: good for a look only."
    )
    choice = ImageChoice()
    _extract(console, data, features, [find_image_encoder(choice), find_text_encoder(DEFAULT_TEXT_ENCODER)])

    from tier4k.heads.protocol.options import FitOptions
    from tier4k.heads.reporting.html.page import write_report

    stored = _stored(console, data, features, choice, DEFAULT_TEXT_ENCODER)
    cells: list[tuple[Method, Benchmark]] = [
        ("nr", "I2I"),
        ("fr", "I2I"),
        ("nr", "all"),
        ("pr", "all"),
    ]
    runs = []
    for method, benchmark in cells:
        options = FitOptions(method, benchmark, repeats=repeats, models="first")
        runs.append(_fit(console, *stored, options, folder / "runs"))
        _show(console, runs[-1])
    page = write_report([run.folder for run in runs], folder / "report.html", [data])
    console.print(f"\nLook at {page.path} in a browser.")
    console.print(
        f"Go on with, for example:\n  tier fit-head {data} --features {features} --method fr --target MOS_a --split published"
    )


def _extract(
    console: "Console",
    data: Path,
    features: Path,
    encoders: "Sequence[Encoder]",
    layout: LayoutName | None = None,
    on_error: OnError = "stop",
    options: "ExtractionOptions | None" = None,
) -> None:
    _encode(console, data, features, _load(console, data, features, layout, on_error), encoders, options)


def _encode(
    console: "Console",
    data: Path,
    features: Path,
    report: "Report",
    encoders: "Sequence[Encoder]",
    options: "ExtractionOptions | None" = None,
) -> None:
    from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
    from tier4k.extract.pipeline.progress import ConsoleListener, describe
    from tier4k.extract.pipeline.records import DatasetRecord, write_extraction
    from tier4k.extract.pipeline.run import extract as run_extraction

    for encoder in encoders:
        kind = {"image": "image encoder", "text": "text encoder", "score": "scorer"}[encoder.signature.stream]
        console.print(f"{kind} {encoder.preset.name}: weights from {encoder.weights.source}", soft_wrap=True)
    options = options or ExtractionOptions(default_workers())
    record = DatasetRecord.of(report.manifest)
    # Written before the first picture is encoded too, so that `store gc` knows what a store is for that is still being filled.
    with ConsoleListener(console, begun=lambda: record.write(features)) as listener:
        summaries = run_extraction(report.manifest, encoders, features, options, listener)
    record.write(features)
    if any(summary.encoded for summary in summaries):
        write_extraction(features, data, sys.argv, options, summaries)
    for summary in summaries:
        console.print(describe(summary), soft_wrap=True)


def _extract_finetuned(
    console: "Console",
    data: Path,
    features: Path,
    run: Path,
    target: str | None,
    repeat: int | None,
    layout: LayoutName | None,
    on_error: OnError,
    options: "ExtractionOptions",
) -> None:
    from tier4k.heads.encoders.finetuned import finetuned_encoders

    encoders = finetuned_encoders(run, target, repeat)
    encoders.record(features)
    _extract(console, data, features, [encoders.image, encoders.text], layout, on_error, options)
    image, text = encoders.image.signature.folder_name, encoders.text.signature.folder_name
    console.print(f"Use them as --image-encoder {image} --text-encoder {text}", soft_wrap=True)
    # Their training rows' scores are in these features: a head that starts anew trusts them too much.
    own = shlex.join(
        [
            "--target",
            encoders.target,
            "--split",
            f"{run / 'splits.json'}:{encoders.repeat}",
            "--start",
            str(run),
        ]
    )
    console.print(
        f"Best with {own} (the run's own head, trained on where validation rows gain by it)", soft_wrap=True
    )


def _encoders(
    data: Path,
    layout: LayoutName | None,
    choice: "ImageChoice",
    text_encoder: str,
    image_weights: Path | None,
    text_weights: Path | None,
) -> "tuple[ImageEncoder, TextEncoder]":
    from tier4k.extract.datasets.layouts import read_source
    from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
    from tier4k.extract.encoders.weights import search_folders

    folders = search_folders(read_source(data, layout).path.parent)
    return find_image_encoder(choice, image_weights, folders), find_text_encoder(
        text_encoder, text_weights, folders
    )


def _finetune(
    console: "Console",
    report: "Report",
    image: "ImageEncoder",
    text: "TextEncoder",
    options: "FitOptions",
    out: Path,
    device: Device,
) -> "Run":
    from tier4k.extract.pipeline.progress import progress_bar
    from tier4k.heads.finetuning.finetune import finetune

    tasks: dict[str, Any] = {}
    with progress_bar(console) as bar:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, note="")
            bar.update(tasks[what], completed=done)

        return finetune(report.manifest, image, text, options, out, sys.argv, device, show)


def _show_broken(console: "Console", features: Path) -> int:
    """Tell of the stores that cannot be opened, and how many they are."""
    from tier4k.cache.store import broken_stores

    broken = broken_stores(features)
    for why in broken.values():
        console.print(why, style="red", soft_wrap=True)
    return len(broken)


def _choice(
    preset: PresetName | None,
    encoder: str | None,
    preprocessing: PreprocessingName | None,
    image_size: str | None,
    feature: FeatureName | None,
    precision: Precision | None,
    crops: "Crops | None" = None,
) -> "ImageChoice":
    """What is asked of an image encoder: a preset, and what was given beside it."""
    from tier4k.extract.encoders.choice import PRESETS, ImageChoice

    given: dict[str, Any] = {
        "encoder": encoder,
        "preprocessing": preprocessing,
        "image_size": _image_size(image_size),
        "feature": feature,
        "precision": precision,
        "crops": crops,
    }
    base = PRESETS[preset] if preset else ImageChoice()
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def _image_size(text: str | None) -> ImageSize | None:
    if text is None or text == "full":
        return cast(Literal["full"] | None, text)
    if not (text.isdecimal() and 32 <= int(text) <= 2048):
        raise typer.BadParameter(
            f"{text!r} is neither a number of pixels from 32 to 2048 nor 'full'", param_hint="--image-size"
        )
    return int(text)


def _head_options(texts: "Sequence[str]", named: dict[str, Any]) -> dict[str, Any]:
    """NAME=VALUE of each text; the head says which names and values there are."""
    from tier4k.heads.regressors.options import OPTION_OF

    found = dict(named)
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE, such as hidden=256", param_hint="--set")
        option = OPTION_OF.get(name, name)
        if option in found:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--set")
        found[option] = value
    return found


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise typer.BadParameter(f"{text!r} is not I/N with 1 <= I <= N, such as 1/4", param_hint="--shard")
    return int(number), int(parts)


def _stored(
    console: "Console",
    data: Path,
    features: Path,
    choice: "ImageChoice",
    text_encoder: str,
    layout: LayoutName | None = None,
    on_error: OnError = "stop",
) -> "tuple[Report, FeatureStore, FeatureStore]":
    """The checked data set and the two stores of its features."""
    from tier4k.extract.stores.find import find_stores

    images, texts = find_stores(features, choice, text_encoder)
    return _load(console, data, features, layout, on_error, images), images, texts


def _predicted(
    console: "Console",
    model: "Model",
    report: "Report",
    features: Path,
    image_weights: Path | None,
    text_weights: Path | None,
    options: "ExtractionOptions",
) -> "dict[tuple[str, int], np.ndarray]":
    """What the heads of a model predict for the rows of a table, encoding what is not stored."""
    from tier4k.extract.encoders.weights import search_folders
    from tier4k.extract.pipeline.progress import ConsoleListener, describe
    from tier4k.heads.encoders.sources import sources
    from tier4k.heads.inference.predict import predict as run_prediction

    found = sources(model, image_weights, text_weights, search_folders(report.manifest.data))
    with ConsoleListener(console) as listener:
        predicted, summaries = run_prediction(found, report.manifest, features, options, listener)
    for summary in summaries:
        console.print(describe(summary), soft_wrap=True)
    return predicted


def _predicted_zero_shot(
    console: "Console",
    run: Path,
    report: "Report",
    features: Path,
    weights: Path | None,
    options: "ExtractionOptions",
) -> "dict[tuple[str, int], np.ndarray]":
    """What the scorer of a run of `tier score` gives the rows of a table, scoring what is not stored."""
    from tier4k.extract.pipeline.progress import ConsoleListener, describe
    from tier4k.heads.inference.predict import predict_zero_shot

    with ConsoleListener(console) as listener:
        predicted, summaries = predict_zero_shot(run, report.manifest, features, options, listener, weights)
    for summary in summaries:
        console.print(describe(summary), soft_wrap=True)
    return predicted


def _checked(console: "Console", source: "SourceTable", features: Path, on_error: OnError) -> "Report":
    """Check the rows of a table, decoding only the pictures that no store holds."""
    from tier4k.extract.datasets.check import check_table, require_usable

    with _counting(console, "check pictures") as count:
        report = require_usable(check_table(source, _stored_keys(features), count), on_error)
    _note_skipped(console, report, features)
    return report


def _load(
    console: "Console",
    data: Path,
    features: Path,
    layout: LayoutName | None,
    on_error: OnError,
    known: "FeatureStore | None" = None,
) -> "Report":
    """Check DATA, decoding only the pictures that no store, or not the known one, holds, and say which rows are left out."""
    from tier4k.extract.datasets.check import load_manifest

    with _counting(console, "check pictures") as count:
        report = load_manifest(data, layout, on_error, _stored_keys(features, known), count)
    _note_skipped(console, report, features)
    return report


def _stored_keys(features: Path, known: "FeatureStore | None" = None) -> frozenset[str]:
    from tier4k.cache.store import stores

    keys: frozenset[str] = frozenset()
    for store in [known] if known else stores(features):
        with suppress(TierError):  # the pictures of a damaged store are decoded again
            keys |= store.hexadecimal_keys()
    return keys


def _note_skipped(console: "Console", report: "Report", features: Path) -> None:
    if report.problems:
        listing = features / "skipped.csv"
        report.write_problems(listing)
        rows = f"{len(report.skipped_lines):,} of {len(report.source.frame):,} rows"
        console.print(f"Skipped {rows} with problems, listed in {listing}", style="yellow", soft_wrap=True)


def _search(
    console: "Console",
    report: "Report",
    features: Path,
    grid: dict[str, Any],
    base: "Cell",
    trials: int,
    out: Path,
) -> "list[Run]":
    from tier4k.heads.commands.search_table import search_table
    from tier4k.heads.sweeps.search import search

    with _counting(console, "search") as count:
        tried = search(report.manifest, features, grid, base, trials, out, sys.argv, count)
    console.print(search_table(tried))
    console.print(
        f"In the order of the held-out SRCC, by which the first was chosen among {len(tried)}. The test SRCC of the winner is only as good "
        "as the number of trials was small, and no longer a test once anything is chosen by it.",
        style="yellow",
    )
    return [run for one in tried for run in one.runs]


def _fit(
    console: "Console",
    report: "Report",
    images: "FeatureStore",
    texts: "FeatureStore",
    options: "FitOptions",
    out: Path,
) -> "Run":
    from tier4k.heads.protocol.fit import fit_head as fit

    with _counting(console, f"fit {options.method} {options.benchmark}") as count:
        return fit(report.manifest, images, texts, options, out, sys.argv, count)


def _show(console: "Console", run: "Run") -> None:
    from tier4k.heads.reporting.terminal import interval_lines, leakage, notes, results_table

    console.print()
    console.print(results_table(run.results))
    for line in (*notes(run.results), *interval_lines(run.results), leakage(run.results)):
        console.print(line)
    how = (
        "it was there already; delete the folder to do it again"
        if run.found
        else f"done in {run.results.seconds:.1f} s"
    )
    console.print(f"{run.folder} ({how})", soft_wrap=True)


@contextmanager
def _counting(console: "Console", what: str) -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many things of all are done."""
    from tier4k.extract.pipeline.progress import progress_bar

    with progress_bar(console) as bar:
        task = bar.add_task(what, total=None, note="", visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _console() -> "Console":
    from rich.console import Console

    # A pipe has no width of its own; 80 columns would cut every table. Names of users' files and columns are shown as they are, not
    # read as markup.
    # Of several processes one speaks.
    quiet = os.environ.get("RANK", "0") != "0"
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160, quiet=quiet)


def _error(message: str) -> None:
    typer.secho(f"error: {message}", err=True, fg=typer.colors.RED)


def main() -> None:
    """Entry point of `tier`."""
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # a batch system's kill saves what is in hand, like Ctrl-C
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    app()


if __name__ == "__main__":
    main()
