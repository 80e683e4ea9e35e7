"""The layouts of data sets: their columns and folders, read into one canonical table.

Adding a layout is adding an entry to `LAYOUTS`, and its name to `LayoutName` in choices.py. This file looks
at the table as a whole; check.py checks its rows, and tables.py reads its file.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.choices import LayoutName
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.ratings import is_about_ratings, ratings, spread_columns
from tier4k.extract.datasets.tables import cells_of_missing_texts, empty_cells, find_table, read_table

UNKNOWN_GENERATOR = "unknown"

TEXT_COLUMNS = ("name", "image", "prompt", "image_prompt", "generator")

# Columns of the manifest and of its files, which are never scores.
RESERVED_COLUMNS = frozenset(
    (
        "row",
        "line",
        "name",
        "group",
        "benchmark",
        "position",
        "image_key",
        "prompt_key",
        "image_prompt_key",
        "X",
    )
)


@dataclass(frozen=True)
class Layout:
    """The column names and folders of one family of data sets.

    Attributes:
        name: Value of --layout.
        columns: {canonical column: column of the table}, all required.
        image_folder: Finds the folder that `image` is relative to, given the data folder and the image names.
        optional: {canonical column: column of the table} for columns that may be absent.
        targets: Required score columns; empty means every numeric column that has no other meaning.
        image_prompt_folder: The folder that `image_prompt` is relative to, relative to the data folder.
        named_by_folder: Whether the data set has the name of its folder rather than of its table.
    """

    name: LayoutName
    columns: dict[str, str]
    image_folder: Callable[[Path, pd.Series], Path]
    optional: dict[str, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    image_prompt_folder: str = "."
    named_by_folder: bool = True

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that the table must have."""
        return (*self.columns.values(), *self.targets)

    def with_optional(self, column: str) -> "Layout":
        """Return the layout with a required canonical column as one that may be absent."""
        columns = dict(self.columns)
        optional = {column: columns.pop(column)}
        return replace(self, columns=columns, optional=self.optional | optional)


def _folder_all(root: Path, _names: pd.Series) -> Path:
    return root / "All"


def _folder_of_table(root: Path, _names: pd.Series) -> Path:
    return root


def _folder_with_most_names(root: Path, names: pd.Series) -> Path:
    """Return the data folder, or the folder directly inside, that contains most of the named images."""
    folders = [root]
    folders.extend(sorted(filter(Path.is_dir, root.iterdir())))

    def matches(folder: Path) -> int:
        listed = {path.name for path in folder.iterdir()}
        return int(names.isin(listed).sum())

    return max(folders, key=matches)


# Columns decide which layout a table has; where two fit equally well, the later one is taken.
LAYOUTS: dict[LayoutName, Layout] = {
    "pku": Layout(
        name="pku",
        columns={"name": "Generated_image", "prompt": "Text_prompt", "image_prompt": "Image_prompt"},
        targets=("MOS_q", "MOS_a", "MOS_c"),
        image_folder=_folder_all,
        image_prompt_folder="I2I/Image_prompt",
    ),
    "agiqa3k": Layout(
        name="agiqa3k",
        columns={"name": "name", "prompt": "prompt"},
        targets=("mos_quality", "mos_align"),
        image_folder=_folder_with_most_names,
    ),
    "table": Layout(
        name="table",
        columns={"name": "image", "prompt": "prompt"},
        optional={"image_prompt": "image_prompt", "generator": "generator"},
        image_folder=_folder_of_table,
        named_by_folder=False,
    ),
}


@dataclass(frozen=True)
class SourceTable:
    """A table as read, with canonical columns and unchecked rows.

    Attributes:
        name: Name of the data set, for people.
        path: The table's file.
        frame: One line per row of the file that is not blank, in the file's order: `TEXT_COLUMNS` as text,
            targets and the columns of `ratings` as in the file; the index is the number of the row in the
            file, from 0, blank rows counted.
        targets: Names of the score columns.
        image_folder: Folder that `image` is relative to.
        image_prompt_folder: Folder that `image_prompt` is relative to.
        needs_prompts: Whether a row without a text prompt is a problem.
    """

    name: str
    path: Path
    frame: pd.DataFrame
    targets: tuple[str, ...]
    image_folder: Path
    image_prompt_folder: Path
    needs_prompts: bool = True


def read_source(
    data: Path,
    layout: LayoutName | None = None,
    raters: int | None = None,
    needs_prompts: bool = True,
) -> SourceTable:
    """Find the table of a data set, recognise its layout, and read it.

    A command reads its source once: `check_table` takes the result, and `search_folders(source.path.parent)`
    names the folders that may hold weights.

    Args:
        data: The data folder, a folder that holds `PKU-AIGIQA-4K`, or the table itself.
        layout: A name of `LAYOUTS`; None recognises it by the columns.
        raters: Number of ratings of every score; None takes it from a column, if there is one.
        needs_prompts: Whether the table must have a column of text prompts, filled in every row.

    Raises:
        DataError: No table, several tables, an unreadable or empty one, or missing columns.
    """
    path = find_table(data)
    frame = read_table(path)
    chosen = LAYOUTS[layout] if layout else _recognise(frame)
    if not needs_prompts:
        chosen = chosen.with_optional("prompt")
    _require_columns(frame, chosen, path)
    if frame.empty:
        raise DataError(f"{path} has a header but no rows: add the rows")
    canonical, targets = _canonical(frame, chosen)
    root = path.parent
    return SourceTable(
        name=root.resolve().name if chosen.named_by_folder else path.stem,
        path=path,
        frame=canonical.join(ratings(frame, targets, raters)),
        targets=targets,
        image_folder=chosen.image_folder(root, canonical["name"]),
        image_prompt_folder=root / chosen.image_prompt_folder,
        needs_prompts=needs_prompts,
    )


def _recognise(frame: pd.DataFrame) -> Layout:
    def share_of_columns(layout: Layout) -> float:
        present = set(frame.columns).intersection(layout.required)
        return len(present) / len(layout.required)

    return max(reversed(LAYOUTS.values()), key=share_of_columns)


def _require_columns(
    frame: pd.DataFrame,
    layout: Layout,
    path: Path,
) -> None:
    present = list(frame.columns)
    missing = [column for column in layout.required if column not in present]
    if not missing:
        return
    lines = [
        f"{path} lacks columns of the {layout.name} layout:",
        *(f"  {column}{_nearest(column, present)}" for column in missing),
        f"The columns of the table are: {', '.join(present) or 'none'}.",
        f"Rename the columns, or select another layout with --layout {'|'.join(LAYOUTS)}.",
    ]
    raise DataError("\n".join(lines))


def _nearest(name: str, columns: Iterable[str]) -> str:
    by_lower = {column.lower(): column for column in columns}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    if not close:
        return ""
    return f" (nearest: {by_lower[close[0]]!r})"


def _canonical(frame: pd.DataFrame, layout: Layout) -> tuple[pd.DataFrame, tuple[str, ...]]:
    present = {name: column for name, column in layout.optional.items() if column in frame.columns}
    columns = layout.columns | present
    texts = pd.DataFrame(index=frame.index)
    for canonical, column in columns.items():
        texts[canonical] = frame[column].map(_as_text)
    texts["image"] = texts["name"]
    for column in ("prompt", "image_prompt"):
        if column not in texts:
            texts[column] = ""
    if "generator" not in texts:
        texts["generator"] = texts["name"].map(_generator_of)
    texts["generator"] = texts["generator"].replace("", UNKNOWN_GENERATOR)
    targets = layout.targets or _score_columns(frame.drop(columns=list(columns.values())))
    return texts[list(TEXT_COLUMNS)].join(frame[list(targets)]), targets


def _as_text(value: object) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    return str(value).strip()


def _generator_of(name: str) -> str:
    # DALLE_1000_00.jpg (PKU-AIGIQA-4K) and AttnGAN_normal_012.jpg (AGIQA-3K) both begin with the generator.
    generator, underscore, _ = Path(name).stem.partition("_")
    return generator if underscore else UNKNOWN_GENERATOR


def _score_columns(frame: pd.DataFrame) -> tuple[str, ...]:
    targets = []
    for column in frame.columns:
        saved_index = column.startswith("Unnamed:")
        if column in RESERVED_COLUMNS or saved_index or is_about_ratings(column):
            continue
        if _mostly_numbers(frame[column]):
            targets.append(column)
    spreads = spread_columns(targets, targets).values()
    return tuple(target for target in targets if target not in spreads)


def _mostly_numbers(cells: pd.Series) -> bool:
    # A column with a few bad cells is still a score column, so that the bad cells are reported. Empty cells
    # do not count, as a target may have scores of some rows only. Nor do texts such as "n/a": a column that
    # is mostly "n/a" would vanish without a word, where the cells should be reported.
    filled = cells[~empty_cells(cells) & ~cells_of_missing_texts(cells)]
    numbers = pd.to_numeric(filled, errors="coerce")
    return len(filled) > 0 and bool(numbers.notna().mean() > 0.5)
