"""Find the table of a data set, recognise its layout, and read it into one canonical table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.columns import (
    FoundColumns,
    find_columns,
    missing_columns_error,
)
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.layout import Layout
from tier4k.extract.datasets.layouts.published import LAYOUTS
from tier4k.extract.datasets.ratings import ratings
from tier4k.extract.datasets.source import TEXT_COLUMNS, SourceTable, TableReport
from tier4k.extract.datasets.table_choice import RECOGNISED, ColumnChoice, TableChoice
from tier4k.extract.datasets.tables.cells import StoredImage
from tier4k.extract.datasets.tables.find import TABLE_SUFFIXES, is_table, table_files
from tier4k.extract.datasets.tables.part import PartHeader, TablePart
from tier4k.extract.datasets.tables.read import part_headers, read_part
from tier4k.extract.datasets.targets import ScoreColumns, choose_targets

UNKNOWN_GENERATOR = "unknown"

HEADER_LINES = 1

SHARD = re.compile(r"(?P<table>.+)-\d{5}-of-\d{5}")
"""Name of a file that holds some rows of a table, as on the Hugging Face hub."""

NO_PROMPTS = "There are no text prompts, so that only streams of images exist"

INDEPENDENT = f"{NO_PROMPTS}; images are taken as independent of each other"


@dataclass(frozen=True)
class _Candidate:
    """A table that may be that of the data set: one part, or the shards of one table."""

    headers: tuple[PartHeader, ...]
    layout: Layout
    found: FoundColumns

    @property
    def label(self) -> str:
        """The table in a message."""
        return self.headers[0].label

    @property
    def fits(self) -> bool:
        """Whether the table has the columns of its layout."""
        return not self.found.missing


@dataclass(frozen=True)
class _Opened:
    """The table of a data set with its layout, before its columns have meanings."""

    root: Path
    path: Path
    layout: Layout
    parts: Sequence[TablePart]
    found: FoundColumns
    left_out: tuple[str, ...]


def read_source(
    data: Path,
    choice: TableChoice = RECOGNISED,
    raters: int | None = None,
    needs_prompts: bool = True,
) -> SourceTable:
    """Find the table of a data set, recognise its layout, and read it.

    A command reads its source once: `check_tables` takes the result, and `search_folders(source.folder)`
    names the folders that may hold weights.

    Args:
        data: The data folder, a folder that holds `PKU-AIGIQA-4K`, or the table itself.
        choice: What the user says about layout, columns and sheet.
        raters: Number of ratings of every score; None takes it from a column, if there is one.
        needs_prompts: Whether a table with prompts must have one in every row; a published layout may then
            not lack the column.

    Raises:
        DataError: No table, several tables, an unreadable or empty one, or missing columns.
    """
    try:
        opened = _open(data, choice, needs_prompts)
    except OSError as error:  # such as a name that is too long, or a folder without read permission
        raise DataError(f"{data} cannot be opened: {error.strerror or error}") from error
    rows = _rows(opened)
    if rows.empty:
        raise DataError(f"{opened.path} has a header but no rows: add the rows")
    return _source(opened, rows, choice, raters, needs_prompts)


def _open(
    data: Path,
    choice: TableChoice,
    needs_prompts: bool,
) -> _Opened:
    layouts = [LAYOUTS[choice.layout]] if choice.layout else list(LAYOUTS.values())
    if not needs_prompts:
        layouts = [layout.with_optional("prompt") for layout in layouts]
    if not data.exists():
        raise DataError(
            f"{data} does not exist: pass a table, or the data folder, which contains annotation.xlsx or "
            "data.csv"
        )
    if data.is_dir():
        layouts = [layout for layout in layouts if choice.layout or not layout.is_in or layout.is_in(data)]
        for layout in layouts:
            if layout.read_parts:
                return _read_folder(data, layout, choice)
    else:
        layouts = [layout for layout in layouts if choice.layout or not layout.is_in]
    return _read_table(data, layouts, choice)


def _read_folder(
    folder: Path,
    layout: Layout,
    choice: TableChoice,
) -> _Opened:
    """Read a layout whose table is not an ordinary file."""
    assert layout.read_parts
    parts = layout.read_parts(folder)
    columns = list(dict.fromkeys(column for part in parts for column in part.frame.columns))
    found = find_columns(layout, columns, choice.column_choice)
    if found.missing:
        raise missing_columns_error(str(folder), layout, found, columns, LAYOUTS)
    path = parts[0].path if len(parts) == 1 else folder
    return _Opened(folder, path, layout, parts, found, ())


def _read_table(
    data: Path,
    layouts: Sequence[Layout],
    choice: TableChoice,
) -> _Opened:
    candidates, left_out = _candidates(_files(data, layouts), layouts, choice)
    chosen = _only_fitting(data, candidates, choice)
    for candidate in candidates:
        if candidate is not chosen:
            left_out.append(f"{candidate.label} ({_why_not(candidate)})")
    parts = [read_part(header) for header in chosen.headers]
    path = chosen.headers[0].path
    return _Opened(path.parent, path, chosen.layout, parts, chosen.found, tuple(left_out))


def _files(data: Path, layouts: Sequence[Layout]) -> list[Path]:
    """Return the files that may hold the table of a data set."""
    if data.is_file():
        if not is_table(data):
            raise DataError(
                f"{data} is not a table: pass a folder or a file that ends in {', '.join(TABLE_SUFFIXES)}"
            )
        return [data]
    for layout in layouts:
        for name in layout.files:
            if (data / name).is_file():
                return [data / name]
    if not data.is_dir():
        raise DataError(f"{data} is neither a folder nor a file: pass the data folder or a table")
    files = table_files(data)
    if not files:
        raise DataError(
            f"{data} contains no table, but must contain annotation.xlsx (PKU-AIGIQA-4K), data.csv "
            f"(AGIQA-3K), or a file that ends in {', '.join(TABLE_SUFFIXES)} with a column of images"
        )
    return files


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
    present = headers[0].columns
    found = [(layout, find_columns(layout, present, columns)) for layout in layouts]
    for layout, own in found:
        if not own.missing:
            return _Candidate(headers, layout, own)

    if columns.of_field or columns.targets:
        return _Candidate(headers, *found[-1])  # who names columns means a table of any form

    def missing_share(pair: tuple[Layout, FoundColumns]) -> float:
        layout, own = pair
        return len(own.missing) / (len(layout.columns) + len(layout.targets))

    layout, own = min(reversed(found), key=missing_share)
    return _Candidate(headers, layout, own)


def _only_fitting(
    data: Path,
    candidates: Sequence[_Candidate],
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
        raise missing_columns_error(where, only.layout, only.found, header.columns, LAYOUTS)
    reasons = [f"  {candidate.label}: {_why_not(candidate)}" for candidate in candidates]
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
    if candidate.found.missing:
        plural = "s" if len(candidate.found.missing) > 1 else ""
        return f"it lacks the column{plural} {', '.join(candidate.found.missing)}"
    return "the sheet is hidden" if candidate.headers[0].is_hidden else "another table was chosen"


def _rows(opened: _Opened) -> pd.DataFrame:
    """Return the rows of all parts with the columns `file` and `line` (see `SourceTable`)."""
    frames = []
    for part in opened.parts:
        frame = part.frame.copy(deep=False)
        file = "" if part.path == opened.path else part.path.name
        place = pd.DataFrame(
            {"\0file": file, "\0line": frame.index + HEADER_LINES + 1},
            index=frame.index,
        )
        frames.append(frame.join(place))
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0].reset_index(drop=True)


def _source(
    opened: _Opened,
    rows: pd.DataFrame,
    choice: TableChoice,
    raters: int | None,
    needs_prompts: bool,
) -> SourceTable:
    layout, columns = opened.layout, opened.found.of
    place = rows[["\0file", "\0line"]].rename(columns=lambda name: name[1:])
    cells = rows.drop(columns=["\0file", "\0line"])
    scores = _score_columns(cells, layout, columns, choice.column_choice)
    texts = _texts(cells, columns)
    targets = tuple(scores.columns)
    values = pd.DataFrame({target: cells[column] for target, column in scores.columns.items()})
    used = {*columns.values(), *scores.columns.values()}
    others = cells.drop(columns=[column for column in cells.columns if column in used])
    if (split := columns.get("split")) is not None:
        others = others.assign(split=cells[split])
    names_of_targets = {column: target for target, column in scores.columns.items()}
    rated = ratings(cells.rename(columns=names_of_targets), targets, raters)
    report = TableReport(
        columns,
        opened.found.recognised,
        scores.reasons,
        scores.unused,
        opened.left_out,
        _notes(columns),
    )
    return SourceTable(
        name=opened.root.resolve().name if layout.named_by_folder else opened.path.stem,
        path=opened.path,
        frame=pd.concat([texts, place, values, rated], axis=1),
        others=others,
        targets=targets,
        image_folder=layout.image_folder(opened.root, texts["name"]),
        image_prompt_folder=opened.root / layout.image_prompt_folder,
        has_prompts="prompt" in columns,
        has_groups="group" in columns,
        needs_prompts=needs_prompts,
        report=report,
        choice=choice,
    )


def _score_columns(
    cells: pd.DataFrame,
    layout: Layout,
    columns: Mapping[str, str],
    choice: ColumnChoice,
) -> ScoreColumns:
    if choice.targets:
        chosen = {}
        for target, names in choice.targets.items():
            chosen[target] = next(name for name in names if name in cells.columns)
        return ScoreColumns(chosen, dict.fromkeys(chosen, "named by --columns"), {})
    if layout.targets:
        chosen = {target: target for target in layout.targets}
        return ScoreColumns(chosen, dict.fromkeys(chosen, f"score of the layout {layout.name}"), {})
    return choose_targets(cells, columns.values())


def _notes(columns: Mapping[str, str]) -> tuple[str, ...]:
    if "prompt" in columns:
        return ()
    return (NO_PROMPTS if "group" in columns else INDEPENDENT,)


def _texts(cells: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return `TEXT_COLUMNS` as text."""
    texts = pd.DataFrame(index=cells.index)
    for canonical in TEXT_COLUMNS:
        if canonical in columns:
            texts[canonical] = cells[columns[canonical]].map(_as_text)
        else:
            texts[canonical] = ""
    texts["image"] = cells[columns["name"]].map(_place)
    if "image_prompt" in columns:
        texts["image_prompt"] = cells[columns["image_prompt"]].map(_place)
    if "generator" not in columns:
        texts["generator"] = texts["name"].map(_generator_of)
    texts["generator"] = texts["generator"].replace("", UNKNOWN_GENERATOR)
    return texts


def _as_text(value: object) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    return str(value).strip()


def _place(value: object) -> str:
    """Return the place of an image in a cell: that of an image in the table, or the path in the cell."""
    return value.place if isinstance(value, StoredImage) else _as_text(value)


def _generator_of(name: str) -> str:
    # DALLE_1000_00.jpg (PKU-AIGIQA-4K) and AttnGAN_normal_012.jpg (AGIQA-3K) both begin with the generator.
    generator, underscore, _ = Path(name).stem.partition("_")
    return generator if underscore else UNKNOWN_GENERATOR
