"""Options that commands share: `Annotated` types for options, dataclasses for groups (see `groups.py`).

The options of encoders are in `encoder_options.py`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.extract.datasets.benchmarks import parse_benchmark
from tier4k.extract.datasets.choices import Benchmark, LayoutName, OnError
from tier4k.heads.data.choices import Method
from tier4k.heads.regressors.choices import HeadName, RecipeName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tier4k.extract.datasets.source import SourceTable
    from tier4k.extract.datasets.table_choice import TableChoice
    from tier4k.extract.pipeline.options import ExtractionOptions
    from tier4k.heads.protocol.options import FitOptions

FEATURES = Path("features")

RUNS = Path("runs")

# Data and folders

DATA_HELP = (
    "a folder in the layout of a published data set, or a .csv, .tsv, .xlsx, .parquet, .json or .jsonl table."
)
DataArgument = Annotated[
    list[Path],
    typer.Argument(help=f"Data set: {DATA_HELP} Several are joined: their scores are aligned."),
]
OneDataArgument = Annotated[Path, typer.Argument(help=f"Data set: {DATA_HELP}")]
FeaturesOption = Annotated[
    Path,
    typer.Option("--features", "-F", help="Folder that contains the feature stores."),
]
OutOption = Annotated[
    Path,
    typer.Option("--out", help="Folder in which the run folder is made."),
]
RunArgument = Annotated[
    Path,
    typer.Argument(help="Folder of a run that kept its heads, or of an exported model."),
]
RunsArgument = Annotated[
    list[Path],
    typer.Argument(help="Paths of the run folders, for example runs/*."),
]
MatrixOutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", help="File to write: .npz or .parquet."),
]
LayoutOption = Annotated[
    LayoutName | None,
    typer.Option("--layout", help="Layout of DATA. Default: the layout that fits the columns."),
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,…",
        help="Meaning of the columns of DATA: image, prompt, image_prompt, generator, group, split, dataset; "
        "mos=COLUMN is a score and may repeat, mos.NAME=COLUMN gives it another name.",
        show_default="recognised by their names",
    ),
]
SheetOption = Annotated[
    str | None,
    typer.Option(
        "--sheet", help="Sheet of a workbook.", show_default="the visible sheet that has the columns"
    ),
]
OnErrorOption = Annotated[
    OnError,
    typer.Option(
        "--on-error", help="What to do if rows have problems: stop before any work, or skip these rows."
    ),
]


RatersOption = Annotated[
    int | None,
    typer.Option(
        "--raters",
        min=2,
        help="Number of ratings of every score, for the raters' ceiling; DATA has their standard deviations "
        "in columns such as std_quality. Default: the column raters of DATA, if there is one.",
    ),
]


@dataclass(frozen=True)
class TableGroup:
    """What the user says about a table."""

    layout: LayoutOption = None
    columns: ColumnsOption = ""
    sheet: SheetOption = None

    @property
    def choice(self) -> "TableChoice":
        """The same as one value."""
        from tier4k.extract.datasets.table_choice import TableChoice

        return TableChoice(self.layout, self.columns, self.sheet)


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
            min=1, help="Images or crops per batch. Default: the size that is fastest in a short measurement."
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Number of processes that read images. Default: one per core, at most 8."),
    ] = None
    device: Annotated[
        str,
        typer.Option(help="Device of the networks: auto, cpu, cuda, cuda:N or mps."),
    ] = "auto"

    def extraction_options(self) -> "ExtractionOptions":
        """Return the options of an extraction with this batch size, number of workers and device."""
        from tier4k.extract.pipeline.options import ExtractionOptions, default_workers

        workers = default_workers() if self.workers is None else self.workers
        return ExtractionOptions(workers, self.batch_size, device=self.device)


# Rows, targets and splits

MethodOption = Annotated[
    Method,
    typer.Option(
        "--method", help="Fusion: no reference (nr), full reference (fr, I2I only) or partial reference (pr)."
    ),
]
ROWS_HELP = "I2I (rows with an image prompt), T2I (without) or all; AIGIQA4K is another spelling of all."
BenchmarkOption = Annotated[
    Benchmark | None,
    typer.Option(
        "--benchmark",
        parser=parse_benchmark,
        metavar="I2I|T2I|all",
        help=f"{ROWS_HELP} Default: I2I if the method is fr, else all.",
    ),
]
AnyBenchmarkOption = Annotated[
    Benchmark,
    typer.Option("--benchmark", parser=parse_benchmark, metavar="I2I|T2I|all", help=ROWS_HELP),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", help="Score column to use; may be repeated. Default: all.", show_default=False),
]
OneTargetOption = Annotated[
    str | None,
    typer.Option("--target", help="Target to use.", show_default="all"),
]
RepeatOption = Annotated[
    int | None,
    typer.Option("--repeat", help="Repeat whose heads are used.", show_default="all"),
]


@dataclass(frozen=True)
class SplitGroup:
    """Options that split rows into training, validation and test rows."""

    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="RULE|column:NAME|FILE[:N]",
            help="prompt (no prompt is in two parts), random (rows are drawn), generator or dataset (one "
            "generator or data set is left out), published (row i is tested if i % 4 == 3); column:NAME, a "
            "column with train, val or test in every row; or a splits.json; FILE:N selects its repeat N.",
        ),
    ] = "prompt"
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            min=1,
            help="Number of repeats; each has its own seed. Default: 10; with --split generator or dataset, "
            "one for each of them.",
        ),
    ] = None
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            min=2,
            help="Number K of folds for cross-validation: K repeats, which together test every row once.",
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, help="Seed of the first repeat."),
    ] = 0

    def fit_options(self) -> "FitOptions":
        """Return fit options with the splits of this group.

        Raises:
            SplitError: The split is neither a rule nor a file of splits.
        """
        from tier4k.heads.data.split_request import parse_split
        from tier4k.heads.protocol.options import FitOptions

        return FitOptions(
            split=parse_split(self.split),
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
            min=1,
            help="Number of heads fitted on each split, to separate the variance of training from the "
            "variance of splits.",
        ),
    ] = 1
    head: Annotated[
        HeadName,
        typer.Option(
            "--head",
            help="Kind of head: the two layers of TIER (mlp), or another regression on the fused vector.",
        ),
    ] = "mlp"
    recipe: Annotated[
        RecipeName,
        typer.Option(
            "--recipe",
            help="Training settings: for stored features (cached), or those of TIER-4K (published).",
        ),
    ] = "cached"

    def fit_options(self) -> "FitOptions":
        """Return fit options with the splits, the head and the recipe of this group.

        Raises:
            SplitError: The split is neither a rule nor a file of splits.
        """
        return replace(
            super().fit_options(),
            seeds=self.seeds,
            estimator=self.head,
            recipe=self.recipe,
        )


@dataclass(frozen=True)
class TrainingGroup:
    """Options of the head and of the training that replace options of the recipe."""

    learning_rate: Annotated[
        float | None,
        typer.Option(min=0, help="Learning rate. Default: that of the recipe."),
    ] = None
    weight_decay: Annotated[
        float | None,
        typer.Option(min=0, help="Weight decay. Default: that of the recipe."),
    ] = None
    train_batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Batch size of the training. Default: that of the recipe."),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of epochs. Default: that of the recipe."),
    ] = None
    set_option: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Set any other option of the head or of the training, for example --set hidden=256.",
        ),
    ] = None
