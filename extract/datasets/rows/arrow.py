"""Rows of data sets that Hugging Face's `datasets` saved with `save_to_disk`: Arrow streams in a folder."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

import msgspec
import numpy as np

from tier4k.cache.text import first_few, shortened, shown
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.rows.cells import (
    Images,
    RowColumns,
    batch_of_cells,
    find_row_columns,
    numbered_names,
    numbered_places,
    stored_images,
    texts,
)
from tier4k.extract.datasets.rows.file_rows import FileRows
from tier4k.extract.datasets.rows.files import read_failure
from tier4k.extract.datasets.rows.source import ROWS_PER_BATCH, RowBatch
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.datasets.tables.parquet_images import PATH_FIELD, has_path, is_bytes, is_image_struct
from tier4k.extract.images.parquet_rows import BYTES_FIELD
from tier4k.extract.images.place_names import quoted_name

if TYPE_CHECKING:
    import pyarrow as pa

STATE_FILE = "state.json"
SPLITS_FILE = "dataset_dict.json"


class _File(TypedDict):
    filename: str


class _State(TypedDict, total=False):
    _data_files: list[_File] | None
    _indices_data_files: list[_File] | None


class _Splits(TypedDict, total=False):
    splits: list[str] | None


Content = TypeVar("Content")


def is_saved_dataset(folder: Path) -> bool:
    """Return whether `save_to_disk` wrote a folder: of one data set, or of several splits."""
    return (folder / SPLITS_FILE).is_file() or (
        (folder / STATE_FILE).is_file() and (folder / "dataset_info.json").is_file()
    )


@dataclass(frozen=True)
class ArrowRows(FileRows[TableChoice]):
    """Rows of the Arrow streams of a saved data set, uncompressed, so that an image is a part of a file."""

    @classmethod
    def open(
        cls,
        data: Path,
        choice: TableChoice,
        needs_prompts: bool,
    ) -> "ArrowRows":
        """Find the columns of a saved data set in its first file.

        Args:
            data: The folder.
            choice: What the user says about columns.
            needs_prompts: Whether a row without a text prompt is a problem, where rows have prompts.

        Raises:
            DataError: The folder has several splits or is incomplete, or there is no column of images.
        """
        folder, notes = _only_split(data)
        files = _stream_files(folder)
        with _opened(files[0]) as stream:
            columns = find_row_columns(files[0], stream.schema.names, choice)
        return cls(
            name=shown(data.absolute().name),
            path=data,
            folder=folder,
            has_prompts=columns.prompt is not None,
            needs_prompts=needs_prompts,
            report=columns.report(notes=notes),
            files=files,
            choice=choice,
        )

    def _rows_of(self, file: str, label: str) -> Iterator[RowBatch]:
        with _opened(file) as stream:
            columns = find_row_columns(file, stream.schema.names, self.choice)
            yield from _Stream(stream, file, label, columns).batches()


def _only_split(data: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder of a data set or of its only split, and a remark about it.

    Raises:
        DataError: There are several splits, or none.
    """
    if not (data / SPLITS_FILE).is_file():
        return data, ()
    splits = _read(data / SPLITS_FILE, _Splits).get("splits") or []
    if not splits:
        raise DataError(f"{data / SPLITS_FILE} names no split: save the data set again")
    if len(splits) > 1:
        raise DataError(
            f"{data} has several splits ({shortened(first_few(splits, 10))}): pass the folder of one, "
            f"such as {shortened(data / splits[0])}, or several of these folders"
        )
    return data / splits[0], (f"The rows are those of the only split, {splits[0]}",)


def _stream_files(folder: Path) -> tuple[str, ...]:
    """Return the paths of the Arrow streams of a saved data set.

    Raises:
        DataError: The folder is incomplete, or its rows are in another order than their files say.
    """
    state = _read(folder / STATE_FILE, _State)
    if state.get("_indices_data_files"):
        raise DataError(
            f"{folder} was saved by an old version of datasets, which keeps the order of rows apart: save it "
            "again with load_from_disk and save_to_disk of a newer one"
        )
    names = [entry["filename"] for entry in state.get("_data_files") or []]
    if not names:
        raise DataError(f"{folder / STATE_FILE} names no files: save the data set again")
    elsewhere = next((name for name in names if Path(name).name != name), None)
    if elsewhere is not None:
        raise DataError(
            f"{folder / STATE_FILE} names the file {shortened(shown(elsewhere), 60)!r}, and its files must "
            "be beside it: save the data set again"
        )
    return tuple(str((folder / name).absolute()) for name in names)


def _read(path: Path, kind: type[Content]) -> Content:
    """Return the content of a JSON file of a saved data set.

    Raises:
        DataError: The file is damaged, or its values have other types.
    """
    try:
        return msgspec.convert(json.loads(path.read_text(encoding="utf-8")), kind)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({shortened(error)}): save the data set again") from error


@dataclass(frozen=True)
class _MappedStream:
    """An Arrow stream in memory-mapped bytes, so that only what is used is read."""

    content: "pa.Buffer"
    reader: "pa.RecordBatchStreamReader"

    @property
    def schema(self) -> "pa.Schema":
        return self.reader.schema


@contextmanager
def _opened(path: str) -> Iterator[_MappedStream]:
    """Open a stream.

    Raises:
        DataError: It cannot be opened, or not be read in the context.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(os.fsencode(path)) as file:  # as bytes, which need not be UTF-8
            content = file.read_buffer()
            yield _MappedStream(content, pa.ipc.open_stream(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an Arrow stream: {read_failure(error)}") from error


@dataclass(frozen=True)
class _Stream:
    """One open stream."""

    stream: _MappedStream
    path: str
    label: str
    columns: RowColumns

    def batches(self) -> Iterator[RowBatch]:
        """Yield the rows of the file."""
        start = 0
        for whole in self.stream.reader:
            whole.validate(full=True)  # offsets of a damaged file may point anywhere in the memory
            for first in range(0, whole.num_rows, ROWS_PER_BATCH):
                rows = whole.slice(first, ROWS_PER_BATCH)
                yield self._batch(rows, np.arange(start, start + rows.num_rows))
                start += rows.num_rows

    def _batch(self, rows: "pa.RecordBatch", numbers: np.ndarray) -> RowBatch:
        images = self._images(rows, numbers, self.columns.image)
        prompt, image_prompt = self.columns.prompt, self.columns.image_prompt
        prompts = texts(rows.column(prompt), prompt) if prompt else None
        image_prompts = self._images(rows, numbers, image_prompt) if image_prompt else None
        return batch_of_cells(images, prompts, image_prompts, self.label, numbers + 1)

    def _images(
        self,
        rows: "pa.RecordBatch",
        numbers: np.ndarray,
        column: str,
    ) -> Images:
        import pyarrow as pa

        cells = rows.column(column)
        paths = pa.repeat(pa.scalar(""), len(numbers))
        is_stored, offsets = np.zeros(len(numbers), bool), np.zeros(len(numbers), np.int64)
        sizes = offsets
        if is_image_struct(cells.type):
            if has_path(cells.type):
                paths = texts(cells.field(PATH_FIELD), column)
            is_valid = cells.is_valid().to_numpy(zero_copy_only=False)
            is_stored, offsets, sizes = self._slices(cells.field(BYTES_FIELD), column)
            is_stored &= is_valid
        elif is_bytes(cells.type):
            is_stored, offsets, sizes = self._slices(cells, column)
        else:
            paths = texts(cells, column)
        return stored_images(
            paths,
            is_stored,
            numbered_places(f"{self.path}/#{quoted_name(column)}", offsets, sizes),
            numbered_names("row", numbers),
            str(Path(self.path).parent),
        )

    def _slices(self, cells: "pa.Array", column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return whether cells (B,) have bytes, and where these are in the file: offsets and sizes."""
        import pyarrow as pa

        if not (pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type)):
            raise DataError(f"{self.path}: the images of the column {column} are {cells.type}, not bytes")
        _, bounds, values = cells.buffers()
        kind = np.int64 if pa.types.is_large_binary(cells.type) else np.int32
        ends = np.frombuffer(bounds, kind)[cells.offset : cells.offset + len(cells) + 1].astype(np.int64)
        has_bytes = values is not None and ends[-1] > ends[0]
        start = values.address - self.stream.content.address if has_bytes else 0
        if not 0 <= start <= self.stream.content.size - ends[-1]:
            raise DataError(f"{self.path} is compressed: save the data set again without compression")
        is_valid = cells.is_valid().to_numpy(zero_copy_only=False)
        return is_valid, start + ends[:-1], np.diff(ends)
