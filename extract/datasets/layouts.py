"""The tables that data sets come with, read into one canonical table. Only what concerns the table as a whole is judged here."""

import difflib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import LayoutName

TABLE_SUFFIXES = (".csv", ".xlsx", ".parquet")

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

TEXT_COLUMNS = ("name", "image", "prompt", "image_prompt", "generator")


class DataError(TierError):
    """A data set that cannot be used as it is."""


@dataclass(frozen=True)
class Layout:
    """How one family of data sets names its columns and folders.

    Attributes:
        name: What --layout takes.
        columns: {canonical column: column of the table}, all required.
        optional: The same for columns that may be absent.
        targets: Required score columns; empty means every numeric column that has no other meaning.
        image_folder: Finds the folder that `image` is relative to, given the data folder and the names.
        image_prompt_folder: The same for `image_prompt`, relative to the data folder.
    """

    name: LayoutName
    columns: dict[str, str]
    optional: dict[str, str]
    targets: tuple[str, ...]
    image_folder: Callable[[Path, pd.Series], Path]
    image_prompt_folder: str = "."

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that the table must have."""
        return tuple(self.columns.values()) + self.targets


@dataclass(frozen=True)
class SourceTable:
    """A table as read, in canonical columns but unchecked: `TEXT_COLUMNS` as text and the targets as they stand.

    Attributes:
        name: Name of the data set, for people.
        path: The table's file.
        frame: One line per row of the file that is not blank, in its order; the index is the row's number, from 0, blank ones counted.
        targets: Names of the score columns.
        image_folder: Folder that `image` is relative to.
        image_prompt_folder: Folder that `image_prompt` is relative to.
    """

    name: str
    path: Path
    frame: pd.DataFrame
    targets: tuple[str, ...]
    image_folder: Path
    image_prompt_folder: Path


def _folder_with_most(root: Path, names: pd.Series) -> Path:
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    listed = {folder: {file.name for file in folder.iterdir()} for folder in folders}
    return max(folders, key=lambda folder: int(names.isin(listed[folder]).sum()))


PKU = Layout(
    "pku",
    {"name": "Generated_image", "prompt": "Text_prompt", "image_prompt": "Image_prompt"},
    {},
    ("MOS_q", "MOS_a", "MOS_c"),
    lambda root, _: root / "All",
    "I2I/Image_prompt",
)

AGIQA3K = Layout(
    "agiqa3k", {"name": "name", "prompt": "prompt"}, {}, ("mos_quality", "mos_align"), _folder_with_most
)

TABLE = Layout(
    "table",
    {"name": "image", "prompt": "prompt"},
    {"image_prompt": "image_prompt", "generator": "generator"},
    (),
    lambda root, _: root,
)

LAYOUTS: dict[LayoutName, Layout] = {layout.name: layout for layout in (PKU, AGIQA3K, TABLE)}


def read_source(data: Path, layout: LayoutName | None = None) -> SourceTable:
    """Find the table of a data set, recognise its layout, and read it.

    Args:
        data: The data folder, a folder that holds `PKU-AIGIQA-4K`, or the table itself.
        layout: A name of `LAYOUTS`; None recognises it by the columns.

    Raises:
        DataError: No table, several tables, an unreadable or empty one, or missing columns.
    """
    try:
        path = _find_table(data)
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise DataError(f"{data} cannot be opened: {error.strerror or error}") from error
    frame = _read_table(path)
    chosen = LAYOUTS[layout] if layout else _recognise(frame)
    _require_columns(frame, chosen, path)
    if frame.empty:
        raise DataError(f"{path} has a header but no rows: nothing to do")
    canonical, targets = _canonical(frame, chosen)
    root = path.parent
    return SourceTable(
        name=root.resolve().name if chosen is not TABLE else path.stem,
        path=path,
        frame=canonical,
        targets=targets,
        image_folder=chosen.image_folder(root, canonical["name"]),
        image_prompt_folder=root / chosen.image_prompt_folder,
    )


def _find_table(data: Path) -> Path:
    if not data.exists():
        raise DataError(
            f"{data} does not exist: give the data folder (it holds annotation.xlsx or data.csv) or a table"
        )
    if data.is_file():
        if data.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(f"{data} is not a table: expected a folder or one of {', '.join(TABLE_SUFFIXES)}")
        return data
    for known in ("annotation.xlsx", "data.csv", "PKU-AIGIQA-4K/annotation.xlsx"):
        if (data / known).is_file():
            return data / known
    if not data.is_dir():
        raise DataError(f"{data} is neither a folder nor a file: give the data folder or a table")
    tables = sorted(path for path in data.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    if len(tables) != 1:
        found = (
            "no table"
            if not tables
            else f"{len(tables)} tables ({', '.join(path.name for path in tables[:5])})"
        )
        raise DataError(
            f"{data} holds {found}: expected annotation.xlsx (PKU-AIGIQA-4K), data.csv (AGIQA-3K), or one .csv, .xlsx or "
            ".parquet file with the columns image and prompt; give the table itself if there are several"
        )
    return tables[0]


def _read_table(path: Path) -> pd.DataFrame:
    # Everything is read as text where the format allows: "007" is a name and "None" a prompt until a column is known to be a score.
    try:
        if path.suffix.lower() == ".csv":
            return _filled_rows(_read_csv(path))
        if path.suffix.lower() == ".xlsx":
            frame = pd.read_excel(path, dtype=object, keep_default_na=False, na_values=[""])
            return _filled_rows(frame.rename(columns=str))
        return pd.read_parquet(path).reset_index(drop=True).rename(columns=str)
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty: it has no header line") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as CSV UTF-8"
        ) from error
    except (
        OSError,
        ValueError,
        KeyError,
        SyntaxError,
        zipfile.BadZipFile,
        zlib.error,
        pd.errors.ParserError,
    ) as error:
        raise DataError(f"{path} cannot be read as {path.suffix}: {error}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False)
    for mark, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(frame.columns) == 1 and mark in frame.columns[0]:
            raise DataError(
                f"{path} has {called} between its fields: save it with commas, and numbers with decimal points"
            )
    if not isinstance(
        frame.index, pd.RangeIndex
    ):  # pandas takes the first fields of such rows for an index and shifts the others
        raise DataError(
            f"{path} has rows with more fields than its header: put fields that contain commas in double quotes"
        )
    return frame


def _filled_rows(frame: pd.DataFrame) -> pd.DataFrame:
    # Blank lines mean nothing, but the rows below them keep their numbers.
    return frame[~(frame.isna() | frame.eq("")).all(axis=1)]


def _recognise(frame: pd.DataFrame) -> Layout:
    def share(layout: Layout) -> float:
        return sum(column in frame.columns for column in layout.required) / len(layout.required)

    return max(reversed(LAYOUTS.values()), key=share)


def _require_columns(frame: pd.DataFrame, layout: Layout, path: Path) -> None:
    there = list(frame.columns)
    missing = [column for column in layout.required if column not in there]
    if missing:
        lines = [f"  {column}{_nearest(column, there)}" for column in missing]
        raise DataError(
            f"{path} lacks columns of the {layout.name} layout:\n"
            + "\n".join(lines)
            + f"\nIt has: {', '.join(there) or 'none'}.\n"
            f"Rename them, or choose another layout with --layout {'|'.join(LAYOUTS)}."
        )


def _nearest(name: str, among: list[str]) -> str:
    by_lower = {other.lower(): other for other in among}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" (nearest: {by_lower[close[0]]!r})" if close else ""


def _canonical(frame: pd.DataFrame, layout: Layout) -> tuple[pd.DataFrame, tuple[str, ...]]:
    columns = layout.columns | {
        here: there for here, there in layout.optional.items() if there in frame.columns
    }
    out = pd.DataFrame({here: frame[there].map(_as_text) for here, there in columns.items()})
    out["image"] = out["name"]
    if "image_prompt" not in out:
        out["image_prompt"] = ""
    if "generator" not in out:
        out["generator"] = out["name"].map(_generator_of)
    targets = layout.targets or _numeric_columns(frame.drop(columns=list(columns.values())))
    return out[list(TEXT_COLUMNS)].join(frame[list(targets)]), targets


def _as_text(value: object) -> str:
    return "" if pd.api.types.is_scalar(value) and pd.isna(value) else str(value).strip()


def _generator_of(name: str) -> str:
    # DALLE_1000_00.jpg (PKU-AIGIQA-4K) and AttnGAN_normal_012.jpg (AGIQA-3K) both begin with the generator.
    stem = Path(name).stem
    return stem.split("_", 1)[0] if "_" in stem else "unknown"


def _numeric_columns(frame: pd.DataFrame) -> tuple[str, ...]:
    # A column with a few bad cells is still a score column, so that the bad cells are reported. Names that the manifest or its
    # files use themselves are no scores, nor is a saved row index, which has no name.
    def mostly_numbers(column: str) -> bool:
        return bool(pd.to_numeric(frame[column], errors="coerce").notna().mean() > 0.5)

    named = [
        column
        for column in frame.columns
        if column not in RESERVED_COLUMNS and not column.startswith("Unnamed:")
    ]
    return tuple(column for column in named if mostly_numbers(column))
