"""Find the table of a data set and its layout: of several files and sheets the one that has the columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.extract.datasets.columns import FoundColumns, find_columns, missing_columns_error
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.candidates import Candidate, read_candidates
from tier4k.extract.datasets.layouts.hints import column_hints
from tier4k.extract.datasets.layouts.installed import all_layouts, layout_named
from tier4k.extract.datasets.layouts.layout import Layout
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.datasets.tables.clutter import is_clutter
from tier4k.extract.datasets.tables.find import (
    PARQUET_SUFFIX,
    TABLE_SUFFIXES,
    is_table,
    shard_of,
    table_files,
)
from tier4k.extract.datasets.tables.part import TablePart
from tier4k.extract.datasets.tables.read import read_part


@dataclass(frozen=True)
class FoundTable:
    """The table of a data set with its layout, as read.

    Attributes:
        root: The data folder.
        path: The table's file (of shards the one that the user passed), or the data folder if its rows are in
            several files.
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
class ParquetFiles:
    """The files of a Parquet table in no published layout, whose rows have not been read.

    Attributes:
        paths: The files, in the order of their rows.
        path: The table as the user named it, or the data folder.
        left_out: Other tables and missing files, with the reasons why they are not read.
    """

    paths: tuple[Path, ...]
    path: Path
    left_out: tuple[str, ...]


def find_parquet_files(
    data: Path,
    choice: TableChoice,
    needs_prompts: bool,
) -> ParquetFiles | None:
    """Find the table of a data set; None if it is no Parquet table, or has a published layout.

    Args:
        data: The data folder or the table.
        choice: What the user says about layout, columns and sheet.
        needs_prompts: Whether a published layout may not lack its column of prompts.

    Raises:
        DataError: No table, several tables, an unreadable one, or missing columns.
    """
    try:
        layouts = _layouts(data, choice, needs_prompts)
        if any(layout.read_parts for layout in layouts):
            return None
        chosen, left_out = _choose(data, layouts, choice)
    except OSError as error:
        raise DataError(f"{data} cannot be opened: {error.strerror or error}") from error
    paths = tuple(header.path for header in chosen.headers)
    if chosen.layout.targets or any(path.suffix.lower() != PARQUET_SUFFIX for path in paths):
        return None
    return ParquetFiles(paths, _path(data, paths), tuple(left_out))


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
    layouts = _layouts(data, choice, needs_prompts)
    for layout in layouts:
        if layout.read_parts:
            return _read_parts(data, layout, choice)
    return _read_table(data, layouts, choice)


def _layouts(
    data: Path,
    choice: TableChoice,
    needs_prompts: bool,
) -> list[Layout]:
    """Return the layouts that DATA may have."""
    layouts = [layout_named(choice.layout)] if choice.layout else list(all_layouts().values())
    if not needs_prompts:
        layouts = [layout.with_optional("prompt") for layout in layouts]
    if not data.exists():
        raise DataError(
            f"{data} does not exist: pass a table, or the data folder, which contains annotation.xlsx or "
            "data.csv"
        )
    return [layout for layout in layouts if choice.layout or not layout.is_in or layout.is_in(data)]


def _read_parts(
    data: Path,
    layout: Layout,
    choice: TableChoice,
) -> FoundTable:
    """Read a layout whose table is not an ordinary file."""
    assert layout.read_parts
    parts = layout.read_parts(data)
    columns: dict[str, None] = {}
    for part in parts:
        columns |= dict.fromkeys(part.frame.columns)
    root = data if data.is_dir() else data.parent
    path = parts[0].path if len(parts) == 1 else root
    found = find_columns(layout, tuple(columns), choice.column_choice)
    if found.missing:
        raise missing_columns_error(str(path), layout, found, tuple(columns), all_layouts())
    left_out = _unread_tables(data, [part.path for part in parts])
    return FoundTable(root, path, layout, parts, found, tuple(left_out))


def _read_table(
    data: Path,
    layouts: Sequence[Layout],
    choice: TableChoice,
) -> FoundTable:
    chosen, left_out = _choose(data, layouts, choice)
    parts = [read_part(header) for header in chosen.headers]
    paths = [part.path for part in parts]
    return FoundTable(
        paths[0].parent,
        _path(data, paths),
        chosen.layout,
        parts,
        chosen.found,
        tuple(left_out),
    )


def _choose(
    data: Path,
    layouts: Sequence[Layout],
    choice: TableChoice,
) -> tuple[Candidate, list[str]]:
    """Return the table of a data set, and what is left out."""
    files = _files(data, layouts)
    left_out = _unread_tables(data, files)
    candidates, unreadable = read_candidates(files, layouts, choice)
    chosen = _only_fitting(data, candidates, unreadable, choice)
    others = [candidate for candidate in candidates if candidate is not chosen]
    left_out += unreadable
    left_out += [f"{other.label} ({other.why_not})" for other in others]
    left_out += chosen.missing_shards
    return chosen, left_out


def _path(data: Path, paths: Sequence[Path]) -> Path:
    """Return the path of a table: its file (of shards the one that the user passed), or its folder."""
    if data.is_file():
        return data
    return paths[0].parent if len(paths) > 1 else paths[0]


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
    """Return the files of the table that a file belongs to: all its shards, or the file alone."""
    shard = shard_of(path)
    if shard is None:
        return [path]
    files = table_files(path.parent)
    return [other for other in files if shard_of(other) == shard and other.suffix == path.suffix] or [path]


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


def _only_fitting(
    data: Path,
    candidates: Sequence[Candidate],
    unreadable: Sequence[str],
    choice: TableChoice,
) -> Candidate:
    """Return the only visible table with the columns of a layout, or that of the sheet that the user names.

    Raises:
        DataError: There is none, or there are several.
    """
    if choice.sheet is not None:
        candidates = _of_sheet(data, candidates, choice.sheet)
    fitting = [candidate for candidate in candidates if candidate.fits]
    visible = [candidate for candidate in fitting if choice.sheet or not candidate.header.is_hidden]
    if len(visible) == 1:
        return visible[0]
    if visible:
        raise _several(data, visible)
    if fitting:
        sheet = fitting[0].header.sheet
        raise DataError(
            f"{data}: only {' and '.join(candidate.label for candidate in fitting)} has the columns of a "
            f"data set, and it is hidden: show it, or pass --sheet {sheet!r} if it is meant"
        )
    if len(candidates) == 1:
        raise _unfit(candidates[0], choice)
    raise _none_fits(data, candidates, unreadable)


def _of_sheet(
    data: Path,
    candidates: Sequence[Candidate],
    sheet: str,
) -> list[Candidate]:
    named = [candidate for candidate in candidates if candidate.header.sheet == sheet]
    if not named:
        sheets = [candidate.header.sheet for candidate in candidates]
        known = ", ".join(repr(name) for name in sheets if name is not None) or "no sheets"
        raise DataError(f"{data} has no sheet {sheet!r}: it has {known}")
    return named


def _unfit(only: Candidate, choice: TableChoice) -> DataError:
    header = only.header
    where = str(header.path) if header.sheet is None else f"{header.path}, sheet {header.sheet}"
    if only.defect:
        return DataError(f"{where}: {only.defect}")
    hints = column_hints(read_part(header), only.found, choice) if only.layout.name == "table" else []
    return missing_columns_error(where, only.layout, only.found, header.columns, all_layouts(), hints)


def _none_fits(
    data: Path,
    candidates: Sequence[Candidate],
    unreadable: Sequence[str],
) -> DataError:
    lines = [
        f"no table in {data} has the columns of a data set:",
        *(f"  {candidate.label} ({candidate.why_not})" for candidate in candidates),
        *(f"  {reason}" for reason in unreadable),
        "Say which column is which with --columns image=…,prompt=…,mos=…, or rename the columns.",
    ]
    return DataError("\n".join(lines))


def _several(data: Path, candidates: Sequence[Candidate]) -> DataError:
    labels = "; ".join(candidate.label for candidate in candidates)
    files = {candidate.header.path for candidate in candidates}
    remedy = "pass the path of the table that is meant"
    if len(files) == 1:
        remedy = f"pass --sheet {candidates[0].header.sheet!r}, or the name of another sheet"
    return DataError(
        f"{data} contains {len(candidates)} tables with the columns of a data set ({labels}): {remedy}"
    )
