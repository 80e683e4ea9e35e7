"""Options that commands share: `Annotated` types for options, dataclasses for groups (see `groups.py`).

The options of encoders are in `encoder_options.py`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from tier4k.extract.datasets.benchmarks import parse_benchmark
from tier4k.extract.datasets.choices import Benchmark, LayoutName, OnError
from tier4k.heads.commands import panels
from tier4k.heads.commands.completion import choices
from tier4k.heads.commands.ranges import not_negative, within
from tier4k.heads.data.choices import FOLDS, REPEATS, SEED, SEEDS, Method, SplitRule
from tier4k.heads.regressors.choices import HeadName, RecipeName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tier4k.extract.datasets.source import SourceTable
    from tier4k.extract.datasets.table_choice import TableChoice
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.heads.protocol.options import FitOptions

FEATURES = Path("features")

RUNS = Path("runs")

DEFAULT_HEAD = "mlp"

# Data and folders

DATA_HELP = "A folder or a table (.csv, .xlsx, …)"
DataArgument = Annotated[
    list[Path],
    typer.Argument(metavar="DATA", help="Folders or tables (.csv, .xlsx, …), joined."),
]
STREAMED_DATA_HELP = "Folders, tables, archives, URLs"
StreamedDataArgument = Annotated[
    list[str],
    typer.Argument(metavar="DATA", help=f"{STREAMED_DATA_HELP}."),
]
StreamedDataOrPlanArgument = Annotated[
    list[str],
    typer.Argument(metavar="DATA", help=f"{STREAMED_DATA_HELP}, or a plan."),
]
OneDataArgument = Annotated[Path, typer.Argument(metavar="DATA", help=f"{DATA_HELP}.")]
FeaturesOption = Annotated[
    Path,
    typer.Option(
        "--features",
        "-F",
        metavar="DIR",
        help="Folder that contains the feature stores.",
        rich_help_panel=panels.FEATURES,
    ),
]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder in which the run folder is made.",
        rich_help_panel=panels.OUTPUT,
    ),
]


def found_run(run: Path | None) -> Path | None:
    """Return the folder of a run that an option names by its folder or its digits.

    Raises:
        ResultError: No run or several runs have the digits.
    """
    from tier4k.heads.results.find_run import find_run

    return None if run is None else find_run(run)


def found_runs(runs: list[Path]) -> list[Path]:
    """Return the folders of runs that arguments name; a folder that contains runs stands for all of them.

    Raises:
        ResultError: No run or several runs have digits that were passed.
    """
    from tier4k.heads.results.find_run import find_runs

    return find_runs(runs)


RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run (folder or digits), or an exported model.",
        callback=found_run,
    ),
]
RunsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUNS",
        help="Runs: folders, digits, or a folder of runs.",
        callback=found_runs,
        default_factory=lambda: [RUNS],
        show_default="runs",
    ),
]
MatrixOutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write: .npz or .parquet.",
        rich_help_panel=panels.OUTPUT,
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="Layout of DATA (docs/data.md).",
        show_default="the one that fits",
        autocompletion=choices(get_args(LayoutName)),
        rich_help_panel=panels.DATA,
    ),
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        "--columns",
        metavar="LIST",
        help="Meaning of columns: image=path,mos=MOS,…",
        show_default=False,
        rich_help_panel=panels.DATA,
    ),
]
SheetOption = Annotated[
    str | None,
    typer.Option(
        "--sheet",
        metavar="NAME",
        help="Sheet of a workbook.",
        show_default="that with the columns",
        rich_help_panel=panels.DATA,
    ),
]
ImageFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the images of DATA.",
        show_default="beside DATA",
        rich_help_panel=panels.DATA,
    ),
]
OnErrorOption = Annotated[
    OnError,
    typer.Option(
        "--on-error",
        help="If rows have problems: stop, or skip them.",
        rich_help_panel=panels.DATA,
    ),
]
RatersOption = Annotated[
    int | None,
    typer.Option(
        "--raters",
        min=2,
        metavar="N",
        help="Number of ratings per score.",
        show_default="column raters",
        rich_help_panel=panels.DATA,
    ),
]


@dataclass(frozen=True)
class TableGroup:
    """What the user says about a table."""

    layout: LayoutOption = None
    columns: ColumnsOption = ""
    sheet: SheetOption = None
    image_folder: ImageFolderOption = None

    @property
    def choice(self) -> "TableChoice":
        """The same as one value."""
        from tier4k.extract.datasets.table_choice import TableChoice

        return TableChoice(self.layout, self.columns, self.sheet, self.image_folder)


@dataclass(frozen=True)
class RowsGroup(TableGroup):
    """Options that determine how the rows of data sets are read."""

    on_error: OnErrorOption = "stop"

    def read(self, data: "Sequence[Path]", needs_prompts: bool = True) -> "list[SourceTable]":
        """Read the table of each data set.

        Args:
            data: The data sets.
            needs_prompts: Whether every row must have a text prompt, where there is a column of them.

        Raises:
            DataError: A table as a whole cannot be used.
        """
        from tier4k.extract.datasets.layouts.read import read_source

        return [read_source(path, self.choice, needs_prompts=needs_prompts) for path in data]


@dataclass(frozen=True)
class RatedRowsGroup(RowsGroup):
    """Options that determine how rows and the ratings of their scores are read."""

    raters: RatersOption = None

    def read(self, data: "Sequence[Path]", needs_prompts: bool = True) -> "list[SourceTable]":
        """Read the table of each data set, as `RowsGroup.read` does."""
        from tier4k.extract.datasets.layouts.read import read_source

        return [read_source(path, self.choice, self.raters, needs_prompts) for path in data]


# Extraction


@dataclass(frozen=True)
class SpeedGroup:
    """Batch size, workers and device. They change the speed of an extraction, but not the features."""

    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Images or crops per batch.",
            show_default="256, or measured",
            rich_help_panel=panels.SPEED,
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Threads that read images.",
            show_default="one per core",
            rich_help_panel=panels.SPEED,
        ),
    ] = None
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, cpu, cuda, cuda:N, cuda:all or mps.",
            autocompletion=choices(("auto", "cpu", "cuda", "cuda:all", "mps")),
            rich_help_panel=panels.SPEED,
        ),
    ] = "auto"

    def extraction_options(self) -> "ExtractionOptions":
        """Return the options of an extraction with this batch size, number of workers and device."""
        from tier4k.extract.pipeline.options import ExtractionOptions, default_workers

        workers = default_workers() if self.workers is None else self.workers
        return ExtractionOptions(workers, self.batch_size, device=self.device)


EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class EngineGroup(SpeedGroup):
    """Options of encoding on this machine, or on the machines of a Ray cluster."""

    engine: Annotated[
        EngineName,
        typer.Option(
            help="This machine, or a Ray cluster.",
            rich_help_panel=panels.SPEED,
        ),
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address of a Ray cluster, or auto.",
            show_default="a new one",
            rich_help_panel=panels.SPEED,
        ),
    ] = None
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes of Ray that encode.",
            show_default="one per GPU",
            rich_help_panel=panels.SPEED,
        ),
    ] = None
    gpus_per_actor: Annotated[
        float | None,
        typer.Option(
            callback=not_negative,
            metavar="N",
            help="GPUs of each Ray process, such as 0.5.",
            show_default="1, or 0",
            rich_help_panel=panels.SPEED,
        ),
    ] = None

    def extraction_options(self) -> "ExtractionOptions":
        """Return the options of an extraction, with those of Ray if it is the engine.

        Raises:
            typer.BadParameter: Options do not fit the engine.
        """
        from tier4k.extract.pipeline.options import RayOptions

        options = super().extraction_options()
        if self.engine == "local":
            self._require_no_ray_options()
            return options
        return replace(options, ray=RayOptions(self.address, self.actors, self._gpus_for_ray()))

    def _require_no_ray_options(self) -> None:
        given = {
            "--address": self.address,
            "--actors": self.actors,
            "--gpus-per-actor": self.gpus_per_actor,
        }
        for name, value in given.items():
            if value is not None:
                raise typer.BadParameter(
                    f"{name} has no effect on this machine alone: pass --engine ray too", param_hint=name
                )

    def _gpus_for_ray(self) -> float | None:
        """Return the GPUs of an actor, None if the cluster decides; refuse options of one machine."""
        if self.workers is not None:
            raise typer.BadParameter(
                "Ray decides how many processes read images: leave out --workers", param_hint="--workers"
            )
        if self.device not in ("auto", "cpu"):
            raise typer.BadParameter(
                f"{self.device!r} is a device of this machine, and Ray assigns GPUs to its processes itself: "
                "pass --gpus-per-actor 1, or --device cpu",
                param_hint="--device",
            )
        if self.device == "auto":
            return self.gpus_per_actor
        if self.gpus_per_actor:
            raise typer.BadParameter(
                "--device cpu leaves the GPUs unused: leave out one of the two options",
                param_hint="--gpus-per-actor",
            )
        return 0


# Rows, targets and splits

MethodOption = Annotated[
    Method,
    typer.Option(
        "--method",
        metavar="nr|fr|pr",
        help="Fusion: no, full or partial reference.",
        rich_help_panel=panels.FEATURES,
    ),
]
ROWS_HELP = "Rows with an image prompt, without, or all."
BenchmarkOption = Annotated[
    Benchmark | None,
    typer.Option(
        "--benchmark",
        parser=parse_benchmark,
        metavar="I2I|T2I|all",
        help=ROWS_HELP,
        show_default="all",
        autocompletion=choices(get_args(Benchmark)),
        rich_help_panel=panels.DATA,
    ),
]
AnyBenchmarkOption = Annotated[
    Benchmark,
    typer.Option(
        "--benchmark",
        parser=parse_benchmark,
        metavar="I2I|T2I|all",
        help=ROWS_HELP,
        autocompletion=choices(get_args(Benchmark)),
        rich_help_panel=panels.DATA,
    ),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="Score column; may be repeated.",
        show_default="all",
        rich_help_panel=panels.DATA,
    ),
]
OneTargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="Target to use.",
        show_default="all",
        rich_help_panel=panels.HEAD,
    ),
]
RepeatOption = Annotated[
    int | None,
    typer.Option(
        "--repeat",
        metavar="N",
        help="Repeat whose heads are used.",
        show_default="all",
        rich_help_panel=panels.HEAD,
    ),
]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="NAME",
        help="Code that may run: package.module.Class.",
        show_default="none",
        rich_help_panel=panels.HEAD,
    ),
]


@dataclass(frozen=True)
class SplitGroup:
    """Options that split rows into training, validation and test rows."""

    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="RULE",
            help="prompt, random, generator, published, column:NAME, …",
            autocompletion=choices(get_args(SplitRule)),
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = "prompt"
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            callback=within(REPEATS),
            metavar="N",
            help="Repeats, each with its own seed.",
            show_default="10, or one per part",
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = None
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            callback=within(FOLDS),
            metavar="K",
            help="Cross-validation: K repeats that test every row once.",
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            callback=within(SEED),
            metavar="N",
            help="Seed of the first repeat.",
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = 0

    def fit_options(self) -> "FitOptions":
        """Return fit options with the splits of this group.

        Raises:
            SplitError: The split is neither a rule nor a file of splits.
        """
        from tier4k.heads.protocol.options import FitOptions

        return FitOptions(
            split=self.split,
            repeats=self.repeats,
            folds=self.folds,
            seed=self.seed,
        )


# Heads


@dataclass(frozen=True)
class FitGroup(SplitGroup):
    """Options that determine how heads are fitted: splits, seeds, the kind of head and the recipe."""

    seeds: Annotated[
        int,
        typer.Option(
            "--seeds",
            callback=within(SEEDS),
            metavar="N",
            help="Heads fitted on each split.",
            rich_help_panel=panels.PROTOCOL,
        ),
    ] = 1
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="NAME",
            help="mlp, ridge, svr, …",
            show_default=f"{DEFAULT_HEAD}, or the preset's",
            autocompletion=choices(get_args(HeadName)),
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    recipe: Annotated[
        RecipeName,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="cached, or published (as in TIER-4K).",
            rich_help_panel=panels.HEAD,
        ),
    ] = "cached"

    def fit_options(self) -> "FitOptions":
        """Return fit options with the splits, the head and the recipe of this group.

        Raises:
            HeadError: There is no such head.
            SplitError: The split is neither a rule nor a file of splits.
        """
        from tier4k.heads.regressors.names import require_head

        head = self.head or DEFAULT_HEAD
        require_head(head)
        return replace(
            super().fit_options(),
            seeds=self.seeds,
            estimator=head,
            recipe=self.recipe,
        )


@dataclass(frozen=True)
class TrainingGroup:
    """Options of the head and of the training that replace options of the recipe."""

    learning_rate: Annotated[
        float | None,
        typer.Option(
            callback=not_negative,
            metavar="X",
            help="Learning rate.",
            show_default="that of the recipe",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    weight_decay: Annotated[
        float | None,
        typer.Option(
            callback=not_negative,
            metavar="X",
            help="Weight decay.",
            show_default="that of the recipe",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    train_batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Training batch size.",
            show_default="that of the recipe",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of epochs.",
            show_default="that of the recipe",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
    set_option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another option, such as hidden=256.",
            rich_help_panel=panels.HEAD,
        ),
    ] = None
