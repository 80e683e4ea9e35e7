"""Batches of rows: made of columns or row by row, merged where they are small."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tier4k.cache.text import shown
from tier4k.extract.datasets.rows.files import base_name
from tier4k.extract.datasets.rows.source import BATCH_COLUMNS, ROWS_PER_BATCH, RowBatch, RowProblem

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Row:
    """One row, with the fields of `BATCH_COLUMNS`.

    Attributes:
        problem: Its problem; "" for none.
    """

    name: str
    image: str = ""
    prompt: str = ""
    image_prompt: str = ""
    file: str = ""
    line: int = 0
    problem: str = ""


def row_schema() -> "pa.Schema":
    """Return the types of `BATCH_COLUMNS`."""
    import pyarrow as pa

    types = {"image": pa.binary(), "image_prompt": pa.binary(), "line": pa.int64()}
    return pa.schema([(column, types.get(column, pa.string())) for column in BATCH_COLUMNS])


def batch_of_columns(columns: Mapping[str, Any]) -> RowBatch:
    """Return rows whose columns `BATCH_COLUMNS` are arrays (B,)."""
    import pyarrow as pa

    schema = row_schema()
    arrays = [columns[field.name].cast(field.type) for field in schema]
    return RowBatch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def batch_of_rows(rows: Iterable[Row]) -> RowBatch:
    """Return rows that were made one by one."""
    import pyarrow as pa

    rows = list(rows)
    schema = row_schema()
    arrays = []
    for field in schema:
        cells = [getattr(row, field.name) for row in rows]
        encoded = map(os.fsencode, cells) if field.type == pa.binary() else cells
        arrays.append(pa.array(encoded, field.type))
    problems = [RowProblem(number, row.problem) for number, row in enumerate(rows) if row.problem]
    return RowBatch(pa.RecordBatch.from_arrays(arrays, schema=schema), tuple(problems))


def row_of_unreadable_file(
    path: str,
    label: str,
    error: Exception,
) -> Row:
    """Return a row with the problem of a file that cannot be read, or not from some place on.

    Args:
        path: Path or URL of the file.
        label: Its name in the column `file` (see `file_label`).
        error: Why it cannot be read.
    """
    return Row(shown(base_name(path)), file=label, problem=str(error))


def merged(batches: Iterable[RowBatch]) -> Iterator[RowBatch]:
    """Yield the same rows in fewer batches of at most `ROWS_PER_BATCH`: each costs its reader some time."""
    waiting: list[RowBatch] = []
    for batch in batches:
        if waiting and sum(map(len, waiting)) + len(batch) > ROWS_PER_BATCH:
            yield _joined(waiting)
            waiting = []
        waiting.append(batch)
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[RowBatch]) -> RowBatch:
    import pyarrow as pa

    if len(batches) == 1:
        return batches[0]
    problems: list[RowProblem] = []
    start = 0
    for batch in batches:
        problems.extend(replace(problem, row=start + problem.row) for problem in batch.problems)
        start += len(batch)
    table = pa.Table.from_batches([batch.rows for batch in batches]).combine_chunks()
    return RowBatch(table.to_batches()[0], tuple(problems))
