"""The scores of earlier runs: read from their files, and kept while a run scores."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import numpy as np

from tier4k.cache.atomic import publish
from tier4k.cache.errors import TierError
from tier4k.cache.text import shortened
from tier4k.cache.write_errors import explain_write_errors
from tier4k.heads.inference.scores import CONTENT_BYTES, Scores
from tier4k.heads.inference.scoring_model import PREFIX, ScoringModel

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".parquet"

ROW_GROUP = 2**16

PART_SECONDS = 60.0  # of work that a killed run may lose

SHOWN = 60  # of a value that differs

COMPARED = ("digest", "targets", "repeats")  # metadata that are equal if scores are of one model

CONTENT_TYPE = f"S{CONTENT_BYTES}"


class ScoreFileError(TierError):
    """A file of scores cannot be read, or has scores of another model."""


class KnownScores:
    """The scores of earlier files by content, in memory: 16 bytes a row, and 8 for each target.

    Args:
        files: Files of scores, and parts of them.
        model: What the scores are of.
        parts: Receives new scores.

    Attributes:
        found: Number of rows whose scores were known so far.

    Raises:
        ScoreFileError: A file has scores of another model, or cannot be read.
    """

    def __init__(
        self,
        files: Sequence[Path],
        model: ScoringModel,
        parts: "ScoreParts",
    ) -> None:
        self._targets = len(model.summary.targets)
        self._parts = parts
        keys, values = [np.empty(0, CONTENT_TYPE)], [np.empty((0, 2 * self._targets), np.float32)]
        for path in files:
            for batch in read_rows(path, model, ["key", *model.remembered_columns]):
                table = np.stack([_floats(batch.column(name)) for name in model.remembered_columns], axis=1)
                exists = ~np.isnan(table[:, : self._targets]).any(axis=1)
                keys.append(_contents(batch.column("key"))[exists])
                values.append(table[exists])
        contents = np.concatenate(keys)
        order = np.argsort(contents, kind="stable")
        self._contents = contents[order]
        self._values = np.concatenate(values)[order]
        self.found = 0

    def find(self, content: np.ndarray) -> Scores:
        """Return the known scores of N contents (see `KeyedRows.content`), NaN where there is none."""
        scores = Scores.none(len(content), self._targets)
        if not len(self._contents):
            return scores
        position, is_known = positions_in(self._contents, content)
        values = self._values[position[is_known]]
        scores.put(is_known, Scores(values[:, : self._targets], values[:, self._targets :]))
        self.found += int(is_known.sum())
        return scores

    def remember(self, content: np.ndarray, scores: Scores) -> None:
        """Keep new scores of contents for a later run, in case this one does not end."""
        self._parts.add(content, scores)


def positions_in(ordered: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the position (N,) of each wanted value among M sorted values, and whether it is there (N,).

    Args:
        ordered: At least one value.
        wanted: Values in any order.
    """
    position = np.searchsorted(ordered, wanted)
    position[position == len(ordered)] = 0
    return position, ordered[position] == wanted


class ScoreParts:
    """The folder of new scores beside a file that is being written.

    Args:
        output: The file.
        model: What the scores are of.

    Attributes:
        folder: The folder.
    """

    def __init__(self, output: Path, model: ScoringModel) -> None:
        import pyarrow as pa

        self.folder = output.with_name(f".{output.name}.parts")
        whole = model.schema
        names = ["key", *model.remembered_columns]
        self._schema = pa.schema([whole.field(name) for name in names], whole.metadata)
        self._pending: list[pa.RecordBatch] = []
        self._published = monotonic()

    @property
    def files(self) -> list[Path]:
        """The parts of runs that did not end."""
        return sorted(self.folder.glob(f"[!.]*{SUFFIX}"))

    def add(self, content: np.ndarray, scores: Scores) -> None:
        """Add scores of contents. They are published after `PART_SECONDS`, or when they fill a row group.

        Raises:
            StoreError: They cannot be written.
        """
        import pyarrow as pa

        arrays = [content_array(content, scores.exists)]
        arrays += map(float_array, [*scores.score.T, *scores.spread.T])
        self._pending.append(pa.record_batch(arrays, schema=self._schema))
        rows = sum(batch.num_rows for batch in self._pending)
        if rows >= ROW_GROUP or monotonic() - self._published > PART_SECONDS:
            self._publish()

    def _publish(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_batches(self._pending, self._schema)
        if table.num_rows:
            with explain_write_errors(self.folder):
                publish(self.folder / f"{uuid4().hex}{SUFFIX}", lambda path: pq.write_table(table, path))
        self._pending = []
        self._published = monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:  # of a run that ends well, the file itself has all scores
            self._publish()


def read_rows(
    path: Path,
    model: ScoringModel,
    columns: Sequence[str] | None = None,
) -> Iterator["pa.RecordBatch"]:
    """Yield the rows of a file of scores.

    Raises:
        ScoreFileError: The file has scores of another model, or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = columns or model.schema.names
            _require_model(path, file.schema_arrow, model, names)
            schema = pa.schema([model.schema.field(name) for name in names])
            for batch in file.iter_batches(ROW_GROUP, columns=names):
                batch.validate(full=True)
                yield pa.record_batch(batch.select(names).columns, schema=schema)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ScoreFileError(
            f"{path} exists and cannot be read as scores ({shortened(error)}): delete it, or pass another -o"
        ) from error


def _require_model(
    path: Path,
    schema: "pa.Schema",
    model: ScoringModel,
    columns: Sequence[str],
) -> None:
    """Refuse a file whose scores are of another model."""
    found = {key.decode(): text.decode() for key, text in (schema.metadata or {}).items()}
    wanted = model.metadata
    if PREFIX + "digest" not in found:
        raise ScoreFileError(f"{path} exists and has no scores of tier4k: pass another -o")
    differences = []
    for name in COMPARED:
        if found.get(PREFIX + name) != wanted[name]:
            there = found.get(PREFIX + name, "unknown")
            differences.append(f"{name} {there[:SHOWN]} there, {wanted[name][:SHOWN]} here")
    if differences:
        raise ScoreFileError(
            f"{path} has scores of another model, {found.get(PREFIX + 'model')}, and not of {model.name} "
            f"({'; '.join(differences)}): pass another -o, or delete {path}"
        )
    missing = [name for name in columns if schema.names.count(name) != 1]
    if missing:
        raise ScoreFileError(f"{path} lacks the columns {', '.join(missing)}: delete it, or pass another -o")
    for name in set(schema.names) & set(model.schema.names):
        if schema.field(name).type != model.schema.field(name).type:
            raise ScoreFileError(
                f"{path} has {shortened(schema.field(name).type, SHOWN)} in the column {name}, and not "
                f"{model.schema.field(name).type}: delete it, or pass another -o"
            )


def content_array(content: np.ndarray, exists: np.ndarray) -> "pa.Array":
    """Return contents (N,) as Arrow's fixed-size binary, null where a mask is false."""
    import pyarrow as pa

    data = pa.py_buffer(np.ascontiguousarray(content).view(np.uint8))
    valid = pa.py_buffer(np.packbits(exists, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(CONTENT_BYTES), len(content), [valid, data])


def _contents(array: "pa.Array") -> np.ndarray:
    """Return the contents (N,) of an array; a null has arbitrary bytes."""
    data = np.frombuffer(array.buffers()[1], CONTENT_TYPE)
    return data[array.offset : array.offset + len(array)]


def float_array(values: np.ndarray) -> "pa.Array":
    """Return numbers as Arrow's float32, null for NaN."""
    import pyarrow as pa

    return pa.array(values.astype(np.float32), from_pandas=True)


def _floats(array: "pa.Array") -> np.ndarray:
    """Return the numbers of an array, NaN for null."""
    return array.to_numpy(zero_copy_only=False)
