"""Read the table of a data set into canonical columns."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from tier4k.cache.text import shown
from tier4k.extract.datasets.columns import FoundColumns
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.find import FoundTable, find_table
from tier4k.extract.datasets.layouts.layout import Layout
from tier4k.extract.datasets.ratings import is_about_ratings, ratings, spread_columns
from tier4k.extract.datasets.source import TEXT_COLUMNS, SourceTable, TableReport
from tier4k.extract.datasets.table_choice import RECOGNISED, ColumnChoice, TableChoice
from tier4k.extract.datasets.tables.cells import Formula, PlacedImage, with_numbers
from tier4k.extract.datasets.tables.column_names import UNNAMED
from tier4k.extract.datasets.tables.part import TablePart
from tier4k.extract.datasets.targets import ScoreColumns, choose_targets, require_free_names

UNKNOWN_GENERATOR = "unknown"

NO_PROMPTS = "There are no text prompts, so that only streams of images exist"

INDEPENDENT = f"{NO_PROMPTS}; images are taken as independent of each other"


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
        choice: What the user says about the table.
        raters: Number of ratings of every score; None takes it from a column, if there is one.
        needs_prompts: Whether a table with prompts must have one in every row; a published layout may then
            not lack the column.

    Raises:
        DataError: No table, several tables, an unreadable or empty one, or missing columns.
    """
    table = find_table(data, choice, needs_prompts)
    cells = _cells(table)
    if not len(cells):
        raise DataError(f"{table.path} has a header but no rows: add the rows")
    return _source(table, cells, choice, raters, needs_prompts)


def _cells(table: FoundTable) -> pd.DataFrame:
    """Return the rows of all parts (N) with the index 0 to N - 1."""
    frames = [part.frame for part in table.parts]
    if len(frames) == 1:
        return frames[0].reset_index(drop=True)
    cells = pd.concat(frames, ignore_index=True)
    for column in cells.columns:
        if pd.api.types.is_object_dtype(cells[column]):
            cells[column] = _distinct_images(cells[column], table.parts)
    return cells


def _distinct_images(cells: pd.Series, parts: Sequence[TablePart]) -> pd.Series:
    """Return the cells of a column; if parts call several placed images the same, all by part and row.

    Within one file the reader of the table has done so already.
    """
    images = [cell for cell in cells if isinstance(cell, PlacedImage)]
    if len(set(images)) == len(images):
        return cells
    labels: list[str] = []
    for part in parts:
        labels.extend(f"{part.path.stem} row {number}" for number in part.frame.index)
    named = []
    for cell, label in zip(cells, labels, strict=True):
        named.append(PlacedImage.at(label, cell.place) if isinstance(cell, PlacedImage) else cell)
    return pd.Series(named, cells.index, dtype=object)


def _origins(table: FoundTable) -> pd.DataFrame:
    """Return `file` and `line` of the rows of all parts (N) (see `SourceTable`)."""
    origins = []
    for part in table.parts:
        file = part.path.name if len(table.parts) > 1 else ""
        origins.append(pd.DataFrame({"file": file, "line": part.frame.index + part.header_lines + 1}))
    return pd.concat(origins, ignore_index=True)


def _source(
    table: FoundTable,
    cells: pd.DataFrame,
    choice: TableChoice,
    raters: int | None,
    needs_prompts: bool,
) -> SourceTable:
    layout, columns = table.layout, table.columns.of
    origins = _origins(table)
    chosen = _score_columns(cells.set_axis(origins["line"]), layout, columns, choice.column_choice)
    texts = _texts(cells, columns)
    row_columns = origins.assign(formulas=_formulas(cells, columns))
    others = _others(cells, columns, chosen.columns)
    report = TableReport(
        columns=columns,
        recognised=table.columns.recognised,
        targets=chosen.reasons,
        unused=chosen.unused,
        without_meaning=() if layout.targets else _without_meaning(others, columns, chosen),
        left_out=table.left_out,
        notes=(*_package_notes(layout), *_notes(table.columns)),
    )
    return SourceTable(
        name=shown(_name(table)),
        path=table.path,
        frame=pd.concat([texts, row_columns, _scores(cells, chosen.columns, raters)], axis=1),
        others=others,
        targets=tuple(chosen.columns),
        image_folder=choice.folder_of_images(layout.image_folder(table.root, texts["name"])),
        image_prompt_folder=choice.folder_of_images(table.root) / layout.image_prompt_folder,
        has_prompts="prompt" in columns,
        has_groups="group" in columns,
        needs_prompts=needs_prompts,
        report=report,
        choice=choice,
        package=layout.package,
    )


def _scores(
    cells: pd.DataFrame,
    columns: Mapping[str, str],
    raters: int | None,
) -> pd.DataFrame:
    """Return the scores of each target, {target: column}, and the columns of `ratings`."""
    scores = {target: with_numbers(cells[column]) for target, column in columns.items()}
    target_of = {column: target for target, column in columns.items()}
    rated = ratings(cells.rename(columns=target_of), tuple(columns), raters)
    return pd.concat([pd.DataFrame(scores, index=cells.index), rated], axis=1)


def _others(
    cells: pd.DataFrame,
    columns: Mapping[str, str],
    scores: Mapping[str, str],
) -> pd.DataFrame:
    """Return the columns that have no meaning, and the one that `--columns split=` names, also as `split`."""
    split = columns.get("split")
    used = {*columns.values(), *scores.values()} - {split}
    others = cells.drop(columns=[column for column in cells.columns if column in used])
    return others if split is None else others.assign(split=cells[split])


def _without_meaning(
    others: pd.DataFrame,
    columns: Mapping[str, str],
    scores: ScoreColumns,
) -> tuple[str, ...]:
    """Return the names of columns to which neither the layout, --columns nor their numbers give a meaning."""
    spreads = spread_columns(scores.columns, others.columns).values()
    explained = {*columns.values(), *scores.unused, *spreads, "split"}
    names = [name for name in others.columns if name not in explained]
    return tuple(name for name in names if not is_about_ratings(name) and not name.startswith(UNNAMED))


def _score_columns(
    cells: pd.DataFrame,
    layout: Layout,
    columns: Mapping[str, str],
    choice: ColumnChoice,
) -> ScoreColumns:
    if choice.targets:
        require_free_names(choice.targets)
        chosen = choice.columns_of_targets(cells.columns)
        others = choose_targets(cells, [*columns.values(), *chosen.values()])
        unused = {**dict.fromkeys(others.columns, "--columns names other scores"), **others.unused}
        for spread in spread_columns(chosen, cells.columns).values():
            unused.pop(spread, None)
        return ScoreColumns(chosen, dict.fromkeys(chosen, "named by --columns"), unused)
    if layout.targets:
        chosen = {target: target for target in layout.targets}
        unused = {column: reason for column, reason in layout.not_scores.items() if column in cells}
        return ScoreColumns(chosen, dict.fromkeys(chosen, f"score of the layout {layout.name}"), unused)
    return choose_targets(cells, columns.values())


def _name(table: FoundTable) -> str:
    if table.layout.named_by_folder or table.path.is_dir():
        return table.root.resolve().name
    return table.path.stem


def _package_notes(layout: Layout) -> tuple[str, ...]:
    return (f"Layout {layout.name} of the package {layout.package}",) if layout.package else ()


def _notes(columns: FoundColumns) -> Iterator[str]:
    if columns.not_needed:
        names = ", ".join(columns.not_needed)
        yield f"--columns names {names}, which the table lacks: a prediction needs none of them"
    if "prompt" not in columns.of:
        yield NO_PROMPTS if "group" in columns.of else INDEPENDENT


def _texts(cells: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return `TEXT_COLUMNS` as text."""
    texts = pd.DataFrame(index=cells.index)
    for canonical in TEXT_COLUMNS:
        if canonical in columns:
            texts[canonical] = cells[columns[canonical]].map(_as_shown_text)
        else:
            texts[canonical] = ""
    texts["image"] = _places(cells[columns["name"]])
    if "image_prompt" in columns:
        texts["image_prompt"] = _places(cells[columns["image_prompt"]])
    if "generator" not in columns:
        texts["generator"] = texts["name"].map(_generator_of)
    texts["generator"] = texts["generator"].replace("", UNKNOWN_GENERATOR)
    return texts


def _formulas(cells: pd.DataFrame, columns: Mapping[str, str]) -> pd.Series:
    """Return for each row (N,) its text columns that are formulas without a stored value, "" for none."""
    formulas = pd.Series("", cells.index)
    for canonical in TEXT_COLUMNS:
        if canonical in columns:
            is_formula = cells[columns[canonical]].map(lambda cell: isinstance(cell, Formula)).astype(bool)
            formulas[is_formula] += f"{columns[canonical]} "
    return formulas.str.strip()


def _as_text(value: object) -> str:
    if type(value) is not str and pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    return str(value).strip()


def _as_shown_text(value: object) -> str:
    text = _as_text(value)
    return text if text.isascii() else shown(text)


def _places(cells: pd.Series) -> pd.Series:
    """Return the place of the image in each cell (N,): of an image in the table, or the path in the cell.

    Places are plain objects, as pandas' own type of texts takes no bytes of names that are not UTF-8.
    """
    places = [cell.place if isinstance(cell, PlacedImage) else _as_text(cell) for cell in cells]
    return pd.Series(places, cells.index, dtype=object)


def _generator_of(name: str) -> str:
    # DALLE_1000_00.jpg (PKU-AIGIQA-4K) and AttnGAN_normal_012.jpg (AGIQA-3K) both begin with the generator.
    generator, underscore, _ = Path(name).stem.partition("_")
    return generator if underscore else UNKNOWN_GENERATOR
