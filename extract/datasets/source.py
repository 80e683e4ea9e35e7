"""The table of a data set as read: canonical columns, unchecked rows, and a report of what was read."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pandas as pd

from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice, column_field

TEXT_COLUMNS = ("name", "image", "prompt", "image_prompt", "generator", "group", "dataset")

ROW_COLUMNS = ("file", "line", "formulas")


@dataclass(frozen=True)
class TableReport:
    """How a table was read.

    Attributes:
        columns: {canonical column: column of the table}.
        recognised: The columns among them that were found by a common name.
        targets: {target: why its column is a score}.
        unused: {column: why it is no score, although it looks like one}.
        without_meaning: Columns of a table of the user's own that no name, number or option gives a meaning.
        left_out: Parts of the data set that were not read, with the reason.
        notes: Other remarks.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    recognised: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    without_meaning: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def recognition(self) -> str:
        """The columns that were found by a common name, as a sentence; "" if there are none."""
        names = ", ".join(f"{column_field(name)} = {column}" for name, column in self.recognised.items())
        return names and f"Columns recognised by their names: {names}"

    def lines(self) -> Iterator[str]:
        """Yield one sentence for everything else that a user should know before work begins."""
        for part in self.left_out:
            yield f"Not read: {part}"
        for column, reason in self.unused.items():
            yield f"Column {column} is not used as a score: {reason}"
        yield from self.notes


class DataSource(Protocol):
    """A data set in any form."""

    @property
    def name(self) -> str:
        """Name of the data set, for people."""

    @property
    def path(self) -> Path | str:
        """The data set as the user named it, or the file of its table; the text of a URL."""

    @property
    def folder(self) -> Path:
        """The data folder, which may hold weights; the working directory for a URL."""

    @property
    def has_prompts(self) -> bool:
        """Whether the rows have text prompts."""


@dataclass(frozen=True)
class SourceTable:
    """A table as read, with canonical columns and unchecked rows.

    Attributes:
        name: Name of the data set, for people.
        path: The table's file (of shards the one that the user passed), or the data folder if its rows are in
            several files.
        frame: One line per row of the table that is not blank, in its order, with the index 0 to N - 1:
            `TEXT_COLUMNS` as text ("" for none); `ROW_COLUMNS`: the file of the row ("" if all rows are in
            `path`), its line there, and which of its names and texts are formulas without a stored value (""
            for none); targets and the columns of `ratings` as in the file.
        others: All other columns as in the file (N rows).
        targets: Names of the score columns.
        image_folder: Folder that `image` is relative to.
        image_prompt_folder: Folder that `image_prompt` is relative to.
        has_prompts: Whether there is a column of text prompts.
        has_groups: Whether a column says which rows belong together.
        needs_prompts: Whether a row without a text prompt is a problem, where there is a column of them.
        report: How the table was read.
        choice: What the user said about it.
        package: Name and version of the package that its layout is of; "" for tier4k.
    """

    name: str
    path: Path
    frame: pd.DataFrame
    others: pd.DataFrame
    targets: tuple[str, ...]
    image_folder: Path
    image_prompt_folder: Path
    has_prompts: bool = True
    has_groups: bool = False
    needs_prompts: bool = True
    report: TableReport = field(default_factory=TableReport)
    choice: TableChoice = RECOGNISED
    package: str = ""

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self.path if self.path.is_dir() else self.path.parent


def have_prompts(sources: Iterable[DataSource]) -> bool:
    """Return whether all data sets have text prompts."""
    return all(source.has_prompts for source in sources)
