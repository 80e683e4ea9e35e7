"""Rows of a data set as a stream: what stage 1 reads, whatever form the data set has."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tier4k.extract.datasets.source import DataSource, TableReport

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_BATCH = 2**16

BATCH_COLUMNS = ("name", "image", "prompt", "image_prompt", "file", "line")


@dataclass(frozen=True)
class RowProblem:
    """A problem of one row that its source has found, such as a broken member of an archive.

    Attributes:
        row: Index of the row in its batch.
        message: The problem, with the value.
    """

    row: int
    message: str


@dataclass(frozen=True)
class RowBatch:
    """Consecutive rows.

    Attributes:
        rows: A record batch of B rows with the columns `BATCH_COLUMNS`:
            name           name of the image, text
            image          place of the image (see `tier4k.extract.images.places`), binary as `os.fsencode`
                           returns it; empty if the row names none. Nobody has looked whether it exists.
            prompt         text prompt, "" without one
            image_prompt   place of the image prompt as above, empty without one
            file           name of the file that holds the row, "" if all rows are in one file
            line           number of the row's line or member there, from 1
        problems: Problems that the source has found.
    """

    rows: "pa.RecordBatch"
    problems: tuple[RowProblem, ...] = ()

    def __len__(self) -> int:
        return self.rows.num_rows


class RowSource(DataSource, Protocol):
    """A data set whose rows are read in batches, as often as they are needed, in the same order."""

    @property
    def needs_prompts(self) -> bool:
        """Whether a row without a text prompt is a problem, where rows have prompts."""

    @property
    def report(self) -> TableReport:
        """How the data set was read."""

    def batches(self) -> Iterator[RowBatch]:
        """Yield all rows, at most `ROWS_PER_BATCH` at a time.

        Raises:
            DataError: The data set as a whole cannot be read.
        """

    def why_missing(self, place: str) -> str:
        """Return why there is no image at a place of a row, with the nearest file if there is one."""
