"""Parquet files of scores: one line for each row of a data set, for any number of rows.

A file is wide, with four columns for each target, so that its lines are those of the data set: they join one
to one, and a filter such as `MOS_q_score > 3` reads one column. Parquet cannot be appended to in place. A
rerun therefore writes a new file in one pass over the rows, with the scores of the old one, and replaces it
when it is complete: there is always one file, whose rows are in the order of the data set.

OUTPUT                      the file; its metadata name the model
.OUTPUT.parts/*.parquet     while a run scores, and after one that was killed: the new scores by content,
                            published every minute
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from tier4k.cache.atomic import publish
from tier4k.cache.write_errors import explain_write_errors
from tier4k.heads.inference.keyed_rows import digests
from tier4k.heads.inference.known_scores import (
    CONTENT_TYPE,
    ROW_GROUP,
    KnownScores,
    ScoreParts,
    content_array,
    float_array,
    positions_in,
    read_rows,
)
from tier4k.heads.inference.score_rows import RowReceiver, ScoredRows
from tier4k.heads.inference.scoring_model import ScoringModel

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class WrittenScores:
    """What a run wrote.

    Attributes:
        known: Number of rows whose scores an earlier run had computed.
        kept: Number of earlier rows that are not in the data set.
    """

    known: int
    kept: int


def write_score_file(
    output: Path,
    model: ScoringModel,
    score: Callable[[KnownScores, Sequence[RowReceiver]], None],
) -> WrittenScores:
    """Write a file of scores; if it exists, keep its scores and those of runs that were killed.

    Its rows are those of the data set in their order. Rows of an earlier file that are not among them, by
    `file` and `name`, follow.

    Args:
        output: The file to write.
        model: What the scores are of.
        score: Called once. Its arguments are the known scores, in which it looks up rows before it scores
            them and which remember new scores; and the receivers of all rows.

    Raises:
        ScoreFileError: The existing file has scores of another model, or cannot be read.
        StoreError: The file cannot be written.
        TierError: An error of `score`; scores up to it are kept for the next run.
    """
    parts = ScoreParts(output, model)
    earlier = _EarlierRows(output, model)
    known = KnownScores([*_existing(output), *parts.files], model, parts)

    def write(temporary: Path) -> None:
        """Score all rows, and write them under a temporary name."""
        with _RowWriter(temporary, model) as writer:
            with parts:
                score(known, [writer, earlier])
            for rows in earlier.rest():
                writer.write(rows)

    with explain_write_errors(output):
        publish(output, write)
        shutil.rmtree(parts.folder, ignore_errors=True)
    return WrittenScores(known.found, earlier.kept)


def require_addable(output: Path, model: ScoringModel) -> None:
    """Refuse a file that has scores of another model, before any work.

    Raises:
        ScoreFileError: The file, or a part of a run that was killed, has other scores or cannot be read.
    """
    for path in [*_existing(output), *ScoreParts(output, model).files]:
        for _ in read_rows(path, model, ["key"]):
            break


def _existing(output: Path) -> list[Path]:
    return [output] if output.exists() else []


class _RowWriter:
    """Writes the rows of a file, in row groups of about `ROW_GROUP` rows."""

    def __init__(self, path: Path, model: ScoringModel) -> None:
        import pyarrow.parquet as pq

        self._schema = model.schema
        self._half_width = model.summary.half_width
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._pending: list[pa.RecordBatch] = []

    def add(self, scored: ScoredRows) -> None:
        """Receive the next rows."""
        import pyarrow as pa

        rows, scores = scored.rows.rows, scored.scores
        arrays = [rows.column("name")]
        for target, width in enumerate(self._half_width):
            # Known scores are float32: bounds that follow from these are the same after a rerun.
            score = scores.score[:, target].astype(np.float32).astype(float)
            for values in (score, score - width, score + width, scores.spread[:, target]):
                arrays.append(float_array(values))
        reasons = [scored.reasons.get(row) for row in range(rows.num_rows)]
        line = rows.column("line").to_numpy()
        arrays.append(pa.array(reasons, pa.string()))
        arrays.append(rows.column("file"))
        arrays.append(pa.array(line, mask=line == 0))
        arrays.append(content_array(scored.content, scores.exists))
        self.write(pa.record_batch(arrays, schema=self._schema))

    def write(self, rows: "pa.RecordBatch") -> None:
        """Write rows as they are in a file."""
        self._pending.append(rows)
        if sum(batch.num_rows for batch in self._pending) >= ROW_GROUP:
            self._write_pending()

    def _write_pending(self) -> None:
        import pyarrow as pa

        table = pa.Table.from_batches(self._pending, self._schema)
        if table.num_rows:
            self._writer.write_table(table, row_group_size=ROW_GROUP)
        self._pending = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._write_pending()
        self._writer.close()


class _EarlierRows:
    """Finds the rows of the file of an earlier run that the data set does not have.

    Attributes:
        kept: Number of these rows, once they were returned.
    """

    def __init__(self, path: Path, model: ScoringModel) -> None:
        self._path = path
        self._model = model
        self.kept = 0
        ids = [np.empty(0, CONTENT_TYPE)]
        for file in _existing(path):
            ids += [_ids(batch) for batch in read_rows(file, model, ["file", "name"])]
        self._ids, self._number = np.unique(np.concatenate(ids), return_inverse=True)
        self._seen = np.zeros(len(self._ids), bool)

    def add(self, scored: ScoredRows) -> None:
        """Receive the next rows."""
        if not len(self._ids):
            return
        ids = _ids(scored.rows.rows)
        position, is_known = positions_in(self._ids, ids)
        self._seen[position[is_known]] = True

    def rest(self) -> Iterator["pa.RecordBatch"]:
        """Yield the rows that were not received."""
        import pyarrow as pa

        if self._seen.all():
            return
        start = 0
        for batch in read_rows(self._path, self._model):
            is_kept = ~self._seen[self._number[start : start + batch.num_rows]]
            start += batch.num_rows
            self.kept += int(is_kept.sum())
            yield batch.filter(pa.array(is_kept)).replace_schema_metadata(self._model.schema.metadata)


def _ids(rows: "pa.RecordBatch") -> np.ndarray:
    """Return an identity of each row, (B,) byte strings: a digest of its file and name."""
    files = rows.column("file").to_pylist()
    names = rows.column("name").to_pylist()
    return digests(f"{file}\0{name}".encode() for file, name in zip(files, names, strict=True))
