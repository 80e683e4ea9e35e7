"""The rows of a table that is in memory, as a stream."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tier4k.cache.text import shown
from tier4k.extract.datasets.check import cell_problems
from tier4k.extract.datasets.locate import Locator
from tier4k.extract.datasets.rows.source import ROWS_PER_BATCH, RowBatch, RowProblem
from tier4k.extract.datasets.source import SourceTable
from tier4k.extract.images.place_names import is_url

if TYPE_CHECKING:
    import pyarrow as pa


class TableRows:
    """The rows of a table that has been read, with the problems of its cells (see `RowSource`).

    Args:
        source: The table.
    """

    def __init__(self, source: SourceTable) -> None:
        self._source = source
        self.name = source.name
        self.path = source.path
        self.folder = source.folder
        self.has_prompts = source.has_prompts
        self.needs_prompts = source.needs_prompts
        self.report = source.report

    @cached_property
    def _problems(self) -> dict[int, list[RowProblem]]:
        """The problems of cells, by the number of the batch."""
        problems: dict[int, list[RowProblem]] = {}
        for row, message in cell_problems(self._source):
            batch = problems.setdefault(row // ROWS_PER_BATCH, [])
            batch.append(RowProblem(row % ROWS_PER_BATCH, message))
        return problems

    def batches(self) -> Iterator[RowBatch]:
        """Yield all rows, at most `ROWS_PER_BATCH` at a time."""
        frame = self._source.frame
        for number, start in enumerate(range(0, len(frame), ROWS_PER_BATCH)):
            rows = self._rows(frame.iloc[start : start + ROWS_PER_BATCH])
            yield RowBatch(rows, tuple(self._problems.get(number, ())))

    def why_missing(self, place: str) -> str:
        """Return why there is no image at a place of a row, with the nearest file if there is one."""
        for folder, locator in self._locators.items():
            if place.startswith(f"{folder}{os.sep}"):
                return locator.problem(place[len(str(folder)) + 1 :])
        return next(iter(self._locators.values())).problem(place)

    @cached_property
    def _locators(self) -> dict[Path, Locator]:
        folders = (self._source.image_folder, self._source.image_prompt_folder)
        return {folder: Locator(folder) for folder in folders}

    def _rows(self, frame: pd.DataFrame) -> "pa.RecordBatch":
        import pyarrow as pa

        columns = {
            "name": pa.array(frame["name"].tolist(), pa.string()),
            "image": pa.array(places(frame["image"], self._source.image_folder), pa.binary()),
            "prompt": pa.array(frame["prompt"].tolist(), pa.string()),
            "image_prompt": pa.array(
                places(frame["image_prompt"], self._source.image_prompt_folder), pa.binary()
            ),
            "file": pa.array(frame["file"].tolist(), pa.string()),
            "line": pa.array(frame["line"].tolist(), pa.int64()),
        }
        return pa.RecordBatch.from_pydict(columns)


def places(names: pd.Series, folder: Path) -> list[bytes]:
    """Return the places of the images that cells name, as `os.fsencode` returns them; empty for no image.

    Args:
        names: What the cells name, "" for nothing.
        folder: Folder that the names are relative to.
    """
    start = f"{folder}{os.sep}"
    found: list[bytes] = []
    for name in names:
        if not name or is_url(name):
            place = name
        elif name[0] in "./" or "//" in name or "/./" in name:  # as pathlib writes it
            place = str(folder / name)
        else:
            place = start + name
        found.append(_place_bytes(place))
    return found


def _place_bytes(place: str) -> bytes:
    try:
        return os.fsencode(place)
    except UnicodeEncodeError:  # half a character, which no file has in its name: the image is missing
        return os.fsencode(shown(place))
