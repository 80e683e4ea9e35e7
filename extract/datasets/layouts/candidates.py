"""The tables that may be that of a data set, each with the layout that it fits best."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.extract.datasets.columns import FoundColumns, find_columns
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.layout import Layout
from tier4k.extract.datasets.table_choice import ColumnChoice, TableChoice
from tier4k.extract.datasets.tables.find import Shard, shard_of
from tier4k.extract.datasets.tables.part import PartHeader
from tier4k.extract.datasets.tables.read import part_headers


@dataclass(frozen=True)
class Candidate:
    """A table that may be that of the data set: one part, or the shards of one table.

    Attributes:
        headers: The headers of the part or parts.
        layout: The layout that it fits, or of which it has most columns.
        found: The meaning of its columns.
        defect: Why its columns have no meaning; "" if they have.
    """

    headers: tuple[PartHeader, ...]
    layout: Layout
    found: FoundColumns
    defect: str = ""

    @property
    def header(self) -> PartHeader:
        """The header of the part, or of the first shard."""
        return self.headers[0]

    @property
    def label(self) -> str:
        """The table in a message."""
        return self.header.label

    @property
    def fits(self) -> bool:
        """Whether the table has the columns of its layout."""
        return not self.found.missing and not self.defect

    @property
    def why_not(self) -> str:
        """Why another table was chosen."""
        if self.defect:
            return self.defect
        if self.found.missing:
            plural = "s" if len(self.found.missing) > 1 else ""
            return f"it lacks the column{plural} {', '.join(self.found.missing)}"
        return "the sheet is hidden" if self.header.is_hidden else "another table was chosen"

    @property
    def missing_share(self) -> float:
        """Share of the columns of its layout that the table lacks; optional ones count if it has them."""
        optional = [column for column in self.found.of if column in self.layout.optional]
        columns = len(self.layout.columns) + len(self.layout.targets) + len(optional)
        return len(self.found.missing) / columns

    @property
    def missing_shards(self) -> list[str]:
        """A sentence about the shards of the table that are missing or damaged; none if all are there."""
        shard = shard_of(self.header.path)
        if shard is None or len(self.headers) == shard.count:
            return []
        missing = shard.count - len(self.headers)
        return [f"{missing} of {shard.count} files of the table {shard.table} (missing or damaged)"]


def read_candidates(
    files: Sequence[Path],
    layouts: Sequence[Layout],
    choice: TableChoice,
) -> tuple[list[Candidate], list[str]]:
    """Return the tables in files, and a sentence about each file that cannot be read.

    Args:
        files: The files.
        layouts: The layouts that are tried, in this order.
        choice: What the user says about columns.

    Raises:
        DataError: The only file cannot be read.
    """
    tables: dict[tuple[Path | tuple[Shard, str], str | None], list[PartHeader]] = {}
    unreadable = []
    for path in files:
        try:
            headers = part_headers(path)
        except DataError as error:
            if len(files) == 1:
                raise
            unreadable.append(f"{path.name} (it cannot be read: {error})")
            continue
        for header in headers:
            shard = shard_of(path)
            table = (shard, path.suffix) if shard else path
            tables.setdefault((table, header.sheet), []).append(header)
    columns = choice.column_choice
    candidates = [_candidate(tuple(headers), layouts, columns) for headers in tables.values()]
    return candidates, unreadable


def _candidate(
    headers: tuple[PartHeader, ...],
    layouts: Sequence[Layout],
    columns: ColumnChoice,
) -> Candidate:
    """Return a table with the first layout that it fits, or with the one of which it has most columns."""
    for header in headers:
        if header.defect:
            return Candidate(headers, layouts[-1], FoundColumns({}), header.defect)
    candidates: list[Candidate] = []
    present = headers[0].columns
    for layout in layouts:
        is_last = layout is layouts[-1]  # the generic one, or the one that --layout names
        if columns.of_field and not is_last and not _is_recognised(layout, present):
            continue
        try:
            found = find_columns(layout, present, columns)
        except DataError as error:
            return Candidate(headers, layout, FoundColumns({}), str(error))
        candidates.append(Candidate(headers, layout, found))
        if not found.missing:
            return candidates[-1]
    if columns.of_field or columns.targets:
        return candidates[-1]  # who names columns means a table of any form
    return min(reversed(candidates), key=lambda candidate: candidate.missing_share)


def _is_recognised(layout: Layout, present: Sequence[str]) -> bool:
    """Return whether a table has the images or a score of a layout under their own names.

    `--columns` can give a table the columns of every layout, whose folders of images it does not have.
    """
    return bool({layout.columns["name"], *layout.targets} & set(present))
