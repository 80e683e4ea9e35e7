"""AIGIQA-20K in its authors' form: a table and a folder of images for each part of the official split."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.cells import PlacedImage
from tier4k.extract.datasets.tables.part import TablePart
from tier4k.extract.datasets.tables.read import read_first_part

SPLIT_PARTS = ("train", "val", "test")

COLUMNS = ("name", "prompt")  # not mos, as the scores of a part may be secret

HEAD_BYTES = 1 << 12


def is_aigiqa20k(data: Path) -> bool:
    """Return whether DATA has two tables of AIGIQA-20K, or one with its folder of images, or is such a table.

    Args:
        data: The data folder, or the table of one part.
    """
    if data.is_file():
        names = [_table(part) for part in SPLIT_PARTS if (data.parent / part).is_dir()]
        return data.name in names and _has_columns(data)
    parts = [part for part in SPLIT_PARTS if (data / _table(part)).is_file()]
    has_several = len(parts) > 1 or any((data / part).is_dir() for part in parts)
    return has_several and any(_has_columns(data / _table(part)) for part in parts)


def _has_columns(path: Path) -> bool:
    """Return whether the columns of a table are those of AIGIQA-20K, so that it is not a user's own one."""
    with path.open("rb") as file:
        header = file.readline(HEAD_BYTES).decode("utf-8", "replace")
    return set(COLUMNS) <= {name.strip(' "\ufeff\r\n') for name in header.split(",")}


def read_aigiqa20k(data: Path) -> list[TablePart]:
    """Read each table, with the column `split`: the official split is `--split column:split`.

    The name of a row is as published; its image is in the folder of its part. A table may lack the column
    `mos`: its rows then have no scores. A part without table and folder is not in the data set.

    Args:
        data: The data folder, or the table of one part.

    Raises:
        DataError: A table is missing, cannot be read or lacks a column.
    """
    if data.is_file():
        part = data.stem.removeprefix("info_")
        return [_read(data, part)]
    parts = [_read(data / _table(part), part) for part in SPLIT_PARTS if _has_part(data, part)]
    if not parts:
        raise DataError(f"{data} has none of the tables of AIGIQA-20K, such as {_table('train')}")
    return parts


def _table(part: str) -> str:
    return f"info_{part}.csv"


def _has_part(folder: Path, part: str) -> bool:
    """Return whether a part is in the data set.

    Raises:
        DataError: There are images, but no table.
    """
    path = folder / _table(part)
    if path.is_file():
        return True
    if (folder / part).is_dir():
        raise DataError(
            f"{path} is missing: it has the prompts and scores of the images in {folder / part}; restore it "
            "from the authors' download, or remove the folder"
        )
    return False


def _read(path: Path, part: str) -> TablePart:
    table = read_first_part(path, COLUMNS, "the columns of AIGIQA-20K are name, prompt and mos")
    frame = table.frame
    names = [_in_folder(cell, part) for cell in frame["name"]]
    frame = frame.assign(name=pd.Series(names, frame.index, dtype=object), split=part)
    return replace(table, frame=frame)


def _in_folder(cell: object, folder: str) -> object:
    """Return the name in a cell with its place in a folder; a cell without a name stays as it is."""
    if not isinstance(cell, str) or not cell.strip():
        return cell
    name = cell.strip()
    return PlacedImage.at(name, str(Path(folder, name)))
