"""Rows of a data set in one or several files: tables, archives or streams."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.rows.batch import batch_of_rows, merged, row_of_unreadable_file
from tier4k.extract.datasets.rows.files import file_label, why_missing
from tier4k.extract.datasets.rows.source import RowBatch
from tier4k.extract.datasets.source import TableReport

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class FileRows(Generic[Choice]):
    """Rows of files of one kind. A file that cannot be read is one problem; the other files are read.

    Attributes:
        name, path, folder, has_prompts, needs_prompts, report: See `RowSource`.
        files: Paths or URLs of the files, in the order of their rows.
        choice: What the user says about the columns, or the members of archives.
    """

    name: str
    path: Path | str
    folder: Path
    has_prompts: bool
    needs_prompts: bool
    report: TableReport
    files: tuple[str, ...]
    choice: Choice

    def batches(self) -> Iterator[RowBatch]:
        """Yield all rows (see `RowSource`)."""
        return merged(batch for batch in self._batches() if len(batch))

    def _batches(self) -> Iterator[RowBatch]:
        for file in self.files:
            label = file_label(file, self.files)
            try:
                yield from self._rows_of(file, label)
            except DataError as error:
                yield batch_of_rows([row_of_unreadable_file(file, label, error)])

    def _rows_of(self, file: str, label: str) -> Iterator[RowBatch]:
        """Yield the rows of a file, with `label` in their column `file`.

        Raises:
            DataError: The file cannot be read, or is damaged from some place on.
        """
        raise NotImplementedError

    def why_missing(self, place: str) -> str:
        """Return why there is no file at a place, with the nearest file if there is one."""
        return why_missing(place, self.folder)
