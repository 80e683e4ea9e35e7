"""Options that name data sets and feature stores, and say how their rows are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from tier4k.extract.datasets.benchmarks import parse_benchmark
from tier4k.extract.datasets.choices import Benchmark, LayoutName, OnError
from tier4k.heads.commands import panels
from tier4k.heads.commands.completion import choices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tier4k.extract.datasets.source import SourceTable
    from tier4k.extract.datasets.table_choice import TableChoice

FEATURES = Path("features")

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
