"""Options that commands share: `Annotated` types for options, dataclasses for groups (see `groups.py`).

The options of encoders are in `encoder_options.py`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from tier4k.extract.datasets.benchmarks import parse_benchmark
from tier4k.extract.datasets.choices import Benchmark, LayoutName, OnError
from tier4k.heads.data.choices import Method
from tier4k.heads.regressors.choices import RecipeName

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

DATA_HELP = (
    "a folder in the layout of a published data set, or a .csv, .tsv, .xlsx, .parquet, .json or .jsonl table."
)
DataArgument = Annotated[
    list[Path],
    typer.Argument(help=f"Data set: {DATA_HELP} Several are joined: their scores are aligned."),
]
STREAMED_DATA_HELP = (
    f"Data set: {DATA_HELP[:-1]}; also .tar archives, a folder of save_to_disk, or a URL such as "
    "s3://bucket/{000..099}.tar"
)
StreamedDataArgument = Annotated[
    list[str],
    typer.Argument(metavar="DATA...", help=f"{STREAMED_DATA_HELP}. Several are joined."),
]
StreamedDataOrPlanArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help=f"{STREAMED_DATA_HELP}; or the folder of a plan (see --plan-only). Several are joined.",
    ),
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


DIGITS_HELP = "or the digits at the end of its name (four or more), which are looked up in runs/."
RunArgument = Annotated[
    Path,
    typer.Argument(
        help=f"Folder of a run that kept its heads, or of an exported model; {DIGITS_HELP}",
        callback=found_run,
    ),
]
RunsArgument = Annotated[
    list[Path],
    typer.Argument(
        help=f"Folder of a run, {DIGITS_HELP} A folder that contains runs stands for all of them.",
        callback=found_runs,
        default_factory=lambda: [RUNS],
        show_default="runs",
    ),
]
MatrixOutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", help="File to write: .npz or .parquet."),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="NAME",
        help=f"Layout of DATA: {', '.join(get_args(LayoutName))}, or one of an installed package. Default: "
        "the layout that fits the columns.",
    ),
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
            min=1,
            help="Images or crops per batch. Default: 256 on a GPU of NVIDIA; else the size that is fastest "
            "in a short measurement.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of threads that read images, shared among the devices; 0: the encoding thread reads "
            "them. Default: one per core that this process may use.",
        ),
    ] = None
    device: Annotated[
        str,
        typer.Option(
            help="Device of the networks: auto, cpu, cuda, cuda:N or mps; several with commas between, or "
            "cuda:all for all GPUs, which share the work."
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
            # Square brackets would be read as markup.
            help="What encodes. local: this process, or one process for each device. ray: Ray, on this "
            "machine or on a cluster (needs the extra ray of tier4k)."
        ),
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(
            help="With --engine ray: address of a Ray cluster; auto: the one of this machine. Default: Ray "
            "is started on this machine for this command."
        ),
    ] = None
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --engine ray: number of processes that encode. Default: as many as the GPUs suffice "
            "for; without GPUs one for each machine.",
        ),
    ] = None
    gpus_per_actor: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --engine ray: GPUs of each process that encodes, for example 1, or 0.5 if two share "
            "one. Default: 1 if the cluster has GPUs, else 0.",
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
TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="package.module.Class",
        help="Code of another package that may be executed: a type in heads of your own, or a scorer "
        "(package.module:Name) of a run. May be repeated.",
        show_default="none",
    ),
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
            "column with train, val or test in every row; or a JSON file with the names of the images in "
            "train and test, such as a run's splits.json; FILE:N selects its repeat N.",
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
            min=1,
            help="Number of heads fitted on each split, to separate the variance of training from the "
            "variance of splits.",
        ),
    ] = 1
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="NAME",
            help="Kind of head: mlp (the two layers of TIER), gated, bilinear, ridge, kernel-ridge, svr, "
            "ensemble; or a head of your own: the name of an entry point tier4k.heads, or the import path of "
            "a regressor of scikit-learn's conventions, such as sklearn.ensemble:RandomForestRegressor. "
            f"Default: that of the preset, or {DEFAULT_HEAD}.",
        ),
    ] = None
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
