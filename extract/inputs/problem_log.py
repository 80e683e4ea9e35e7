"""Problems of the rows of a stream, as Arrow tables, so that millions of them fit into memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tier4k.cache.atomic import publish
from tier4k.cache.text import shown
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.problems import Problem, on_one_line

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("name", pa.string()),
        ("problem", pa.string()),
        ("row", pa.int64()),
    ]
)


@dataclass(frozen=True)
class ProblemLog:
    """The problems of the rows of data sets, in the order of the rows.

    Attributes:
        table: The problems, with the columns of `SCHEMA`.
        rows: Number of rows that have a problem.
    """

    table: pa.Table
    rows: int

    def __len__(self) -> int:
        return len(self.table)

    def first(self, count: int) -> Iterator[Problem]:
        """Yield the first problems."""
        for entry in self.table.slice(0, count).to_pylist():
            yield Problem(entry["row"], entry["line"], entry["name"], entry["problem"], entry["file"])

    def write(self, path: Path) -> None:
        """Write the problems to a CSV file with the columns line, name and problem.

        Where the rows are in several files, the first column is file.

        Raises:
            StoreError: The file cannot be written.
        """
        table = self.table.drop_columns(["row"])
        if not pc.any(pc.not_equal(table["file"], "")).as_py():
            table = table.drop_columns(["file"])
        with explain_write_errors(path):
            publish(path, lambda temporary: _write_csv(table, temporary))


class ProblemCollector:
    """Collects the problems of batches of rows."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._rows = 0

    def add(
        self,
        rows: pa.RecordBatch,
        start: int,
        problems: list[tuple[int, str]],
    ) -> None:
        """Add the problems of a batch.

        Args:
            rows: The rows, with the columns name, file and line.
            start: Number of the first row.
            problems: For each problem the index of its row in the batch, and a message.
        """
        if not problems:
            return
        problems = sorted(problems, key=lambda problem: problem[0])
        numbers = pa.array([row for row, _ in problems], pa.int64())
        of_rows = rows.select(["file", "line", "name"]).take(numbers)
        messages = pa.array([on_one_line(shown(message)) for _, message in problems], pa.string())
        columns = [*of_rows.columns, messages, pc.add(numbers, start)]
        self._tables.append(pa.Table.from_arrays(columns, schema=SCHEMA))
        self._rows += len({row for row, _ in problems})

    def log(self) -> ProblemLog:
        """Return the collected problems."""
        return ProblemLog(pa.concat_tables([SCHEMA.empty_table(), *self._tables]), self._rows)


def _write_csv(table: pa.Table, path: Path) -> None:
    with path.open("wb") as file:  # Arrow opens no path whose bytes are not UTF-8
        pa.csv.write_csv(table.combine_chunks(), file)  # Arrow 19 repeats the header for an empty chunk
