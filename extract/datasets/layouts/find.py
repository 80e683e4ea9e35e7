"""Find the table of a data set and its layout: of several files and sheets the one that has the columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.extract.datasets.columns import FoundColumns, find_columns, missing_columns_error
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.layout import Layout
from tier4k.extract.datasets.layouts.published import LAYOUTS
from tier4k.extract.datasets.table_choice import ColumnChoice, TableChoice
from tier4k.extract.datasets.tables.clutter import is_clutter
from tier4k.extract.datasets.tables.find import SHARD, TABLE_SUFFIXES, is_table, table_files
from tier4k.extract.datasets.tables.part import PartHeader, TablePart
from tier4k.extract.datasets.tables.read import part_headers, read_part


@dataclass(frozen=True)
class FoundTable:
    """The table of a data set with its layout, as read.

    Attributes:
        root: The data folder.
        path: The table's file, or the data folder if its rows are in several files.
        layout: The layout.
        parts: The rows, in one or several parts.
        columns: The meaning of the columns.
        left_out: Other tables and sheets, with the reasons why they were not read.
    """

    root: Path
    path: Path
    layout: Layout
    parts: Sequence[TablePart]
    columns: FoundColumns
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
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
    def label(self) -> str:
        """The table in a message."""
        return self.headers[0].label

    @property
    def fits(self) -> bool:
        """Whether the table has the columns of its layout."""
        return not self.found.missing and not self.defect

    @property
    def missing_share(self) -> float:
        """Share of the columns of its layout that the table lacks; optional ones count if it has them."""
        optional = [column for column in self.found.of if column in self.layout.optional]
        columns = len(self.layout.columns) + len(self.layout.targets) + len(optional)
        return len(self.found.missing) / columns

    @property
    def missing_shards(self) -> list[str]:
        """A sentence about the shards of the table that are not there; none if all are."""
        shard = SHARD.fullmatch(self.headers[0].path.stem)
        if shard is None or len(self.headers) == int(shard["count"]):
            return []
        missing = int(shard["count"]) - len(self.headers)
        return [
            f"{missing} of {int(shard['count'])} files of the table {shard['table']} (missing or damaged)"
        ]


def find_table(
    data: Path,
    choice: TableChoice,
    needs_prompts: bool,
) -> FoundTable:
    """Find the table of a data set and its layout, and read it.

    Args:
        data: The data folder, a folder that holds `PKU-AIGIQA-4K`, or the table itself.
        choice: What the user says about layout, columns and sheet.
        needs_prompts: Whether a published layout may not lack its column of prompts.

    Raises:
        DataError: No table, several tables, an unreadable one, or missing columns.
    """
    try:
        return _find_table(data, choice, needs_prompts)
    except OSError as error:  # such as a name that is too long, or a folder without read permission
        raise DataError(f"{data} cannot be opened: {error.strerror or error}") from error


def _find_table(
    data: Path,
    choice: TableChoice,
    needs_prompts: bool,
) -> FoundTable:
    layouts = [LAYOUTS[choice.layout]] if choice.layout else list(LAYOUTS.values())
    if not needs_prompts:
        layouts = [layout.with_optional("prompt") for layout in layouts]
    if not data.exists():
        raise DataError(
            f"{data} does not exist: pass a table, or the data folder, which contains annotation.xlsx or "
            "data.csv"
        )
    layouts = [layout for layout in layouts if choice.layout or not layout.is_in or layout.is_in(data)]
    for layout in layouts:
        if layout.read_parts:
            return _read_parts(data, layout, choice)
    return _read_table(data, layouts, choice)


def _read_parts(
    data: Path,
    layout: Layout,
    choice: TableChoice,
) -> FoundTable:
    """Read a layout whose table is not an ordinary file."""
    assert layout.read_parts
    parts = layout.read_parts(data)
    columns = list(dict.fromkeys(column for part in parts for column in part.frame.columns))
    root = data if data.is_dir() else data.parent
    path = parts[0].path if len(parts) == 1 else root
    found = find_columns(layout, columns, choice.column_choice)
    if found.missing:
        raise missing_columns_error(str(path), layout, found, columns, LAYOUTS)
    left_out = _unread_tables(data, [part.path for part in parts])
    return FoundTable(root, path, layout, parts, found, tuple(left_out))


def _read_table(
    data: Path,
    layouts: Sequence[Layout],
    choice: TableChoice,
) -> FoundTable:
    files = _files(data, layouts)
    left_out = _unread_tables(data, files)
    candidates, unreadable = _candidates(files, layouts, choice)
    chosen = _only_fitting(data, candidates, unreadable, choice)
    others = [candidate for candidate in candidates if candidate is not chosen]
    left_out += [*unreadable, *(f"{other.label} ({_why_not(other)})" for other in others)]
    left_out += chosen.missing_shards
    parts = [read_part(header) for header in chosen.headers]
    path = chosen.headers[0].path
    root = path.parent
    return FoundTable(
        root,
        data if data.is_file() else path if len(parts) == 1 else root,
        chosen.layout,
        parts,
        chosen.found,
        tuple(left_out),
    )


def _files(data: Path, layouts: Sequence[Layout]) -> list[Path]:
    """Return the files that may hold the table of a data set."""
    if data.is_file():
        if not is_table(data):
            raise DataError(
                f"{data} is not a table: pass a folder or a file that ends in {', '.join(TABLE_SUFFIXES)}"
            )
        return _files_of_one_table(data)
    for layout in layouts:
        for name in layout.files:
            if (data / name).is_file():
                return [data / name]
    if not data.is_dir():
        raise DataError(f"{data} is neither a folder nor a file: pass the data folder or a table")
    files = table_files(data)
    if not files:
        below = [folder for folder in sorted(data.iterdir()) if _has_tables(folder)]
        if below:
            raise DataError(f"{data} contains no table, but its folder {below[0].name} does: pass {below[0]}")
        raise DataError(
            f"{data} contains no table, but must contain annotation.xlsx (PKU-AIGIQA-4K), data.csv "
            f"(AGIQA-3K), or a file that ends in {', '.join(TABLE_SUFFIXES)} with a column of images"
        )
    return files


def _has_tables(folder: Path) -> bool:
    try:
        return not is_clutter(folder) and folder.is_dir() and bool(table_files(folder))
    except OSError:  # a folder of somebody else
        return False


def _files_of_one_table(path: Path) -> list[Path]:
    """Return the files of the table that a file belongs to: the shards of its name, or the file alone."""
    shard = SHARD.fullmatch(path.stem)
    if shard is None:
        return [path]
    files = []
    for other in table_files(path.parent):
        match = SHARD.fullmatch(other.stem)
        is_same = match and other.suffix == path.suffix and match.groupdict() == shard.groupdict()
        if is_same or other == path:
            files.append(other)
    return files or [path]


def _unread_tables(data: Path, read: Sequence[Path]) -> list[str]:
    """Return the tables beside the one that a layout names, which nobody looked into.

    A .json file is a table beside another one only: elsewhere it may be anything, such as a configuration.
    """
    if not data.is_dir() or data in read:
        return []
    known = ", ".join(path.name for path in read)
    folder = read[0].parent
    has_json = any(path.suffix == ".json" for path in read)
    tables = [path for path in table_files(folder) if has_json or path.suffix != ".json"]
    others = [path for path in tables if path not in read]
    return [f"{path.name} (the table of this folder is {known})" for path in others]


def _candidates(
    files: Sequence[Path],
    layouts: Sequence[Layout],
    choice: TableChoice,
) -> tuple[list[_Candidate], list[str]]:
    """Return the tables in files, each with the layout that it fits best, and the files that are none."""
    tables: dict[tuple[str, str | None], list[PartHeader]] = {}
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
            shard = SHARD.fullmatch(path.stem)
            table = f"{shard['table']}{path.suffix}" if shard else path.name
            tables.setdefault((table, header.sheet), []).append(header)
    columns = choice.column_choice
    candidates = [_candidate(tuple(headers), layouts, columns) for headers in tables.values()]
    return candidates, unreadable


def _candidate(
    headers: tuple[PartHeader, ...],
    layouts: Sequence[Layout],
    columns: ColumnChoice,
) -> _Candidate:
    """Return a table with the first layout that it fits, or with the one of which it has most columns."""
    if defect := next(filter(None, (header.defect for header in headers)), ""):
        return _Candidate(headers, layouts[-1], FoundColumns({}), defect)
    candidates: list[_Candidate] = []
    for layout in layouts:
        try:
            found = find_columns(layout, headers[0].columns, columns)
        except DataError as error:
            return _Candidate(headers, layout, FoundColumns({}), str(error))
        candidates.append(_Candidate(headers, layout, found))
        if not found.missing:
            return candidates[-1]
    if columns.of_field or columns.targets:
        return candidates[-1]  # who names columns means a table of any form
    return min(reversed(candidates), key=lambda candidate: candidate.missing_share)


def _only_fitting(
    data: Path,
    candidates: Sequence[_Candidate],
    unreadable: Sequence[str],
    choice: TableChoice,
) -> _Candidate:
    """Return the only visible table with the columns of a layout, or that of the sheet that the user names.

    Raises:
        DataError: There is none, or there are several.
    """
    if choice.sheet is not None:
        candidates = _of_sheet(data, candidates, choice.sheet)
    fitting = [candidate for candidate in candidates if candidate.fits]
    visible = [candidate for candidate in fitting if choice.sheet or not candidate.headers[0].is_hidden]
    if len(visible) == 1:
        return visible[0]
    if visible:
        raise _several(data, visible)
    if fitting:
        sheet = fitting[0].headers[0].sheet
        raise DataError(
            f"{data}: only {' and '.join(candidate.label for candidate in fitting)} has the columns of a "
            f"data set, and it is hidden: show it, or pass --sheet {sheet!r} if it is meant"
        )
    if len(candidates) == 1:
        only = candidates[0]
        header = only.headers[0]
        where = str(header.path) if header.sheet is None else f"{header.path}, sheet {header.sheet}"
        if only.defect:
            raise DataError(f"{where}: {only.defect}")
        raise missing_columns_error(where, only.layout, only.found, header.columns, LAYOUTS)
    reasons = [f"  {candidate.label} ({_why_not(candidate)})" for candidate in candidates]
    reasons += [f"  {reason}" for reason in unreadable]
    raise DataError(
        "\n".join(
            [
                f"no table in {data} has the columns of a data set:",
                *reasons,
                "Say which column is which with --columns image=…,prompt=…,mos=…, or rename the columns.",
            ]
        )
    )


def _of_sheet(
    data: Path,
    candidates: Sequence[_Candidate],
    sheet: str,
) -> list[_Candidate]:
    named = [candidate for candidate in candidates if candidate.headers[0].sheet == sheet]
    if not named:
        sheets = [candidate.headers[0].sheet for candidate in candidates]
        known = ", ".join(repr(name) for name in sheets if name is not None) or "no sheets"
        raise DataError(f"{data} has no sheet {sheet!r}: it has {known}")
    return named


def _several(data: Path, candidates: Sequence[_Candidate]) -> DataError:
    labels = "; ".join(candidate.label for candidate in candidates)
    files = {candidate.headers[0].path for candidate in candidates}
    remedy = "pass the path of the table that is meant"
    if len(files) == 1:
        remedy = f"pass --sheet {candidates[0].headers[0].sheet!r}, or the name of another sheet"
    return DataError(
        f"{data} contains {len(candidates)} tables with the columns of a data set ({labels}): {remedy}"
    )


def _why_not(candidate: _Candidate) -> str:
    if candidate.defect:
        return candidate.defect
    if candidate.found.missing:
        plural = "s" if len(candidate.found.missing) > 1 else ""
        return f"it lacks the column{plural} {', '.join(candidate.found.missing)}"
    return "the sheet is hidden" if candidate.headers[0].is_hidden else "another table was chosen"
