"""The plan of an extraction: the rows of data sets are read once, in batches, and become distinct inputs.

Each image is hashed unless the cache of hashes knows it; nothing is decoded. Arrays and Arrow tables hold the
rows, and the places of images lie in a file, so that ten million rows fit into memory.
"""

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tier4k.cache.keys import KEY_BYTES, bytes_key, key_array
from tier4k.cache.text import shown
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.check import IMAGE_LABELS, NO_PROMPT
from tier4k.extract.datasets.hashes.hasher import TRANSPARENT, TURNED, ImageHasher
from tier4k.extract.datasets.join import distinct_names
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.extract.datasets.rows.source import RowBatch, RowSource
from tier4k.extract.datasets.source import have_prompts
from tier4k.extract.images.place_names import is_url
from tier4k.extract.inputs.dataset import NONE, DatasetInputs, RowNumbers
from tier4k.extract.inputs.distinct import DistinctKeys
from tier4k.extract.inputs.input_files import VALUES
from tier4k.extract.inputs.inputs import Inputs, absolute_places, decoded
from tier4k.extract.inputs.problem_log import ProblemCollector, ProblemLog


@dataclass(frozen=True)
class Plan:
    """The inputs of the usable rows of data sets, and the problems of the others.

    Attributes:
        inputs: The inputs of the rows without a problem.
        problems: The problems.
        rows: Number of rows.
        turned: Number of distinct images that are turned upright, as their EXIF orientation says.
        transparent: Number of distinct images that are composited onto white.
    """

    inputs: DatasetInputs
    problems: ProblemLog
    rows: int
    turned: int
    transparent: int


def plan_inputs(
    sources: Sequence[RowSource],
    hasher: ImageHasher,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Read all rows of data sets, and find their distinct inputs.

    Args:
        sources: The data sets.
        hasher: Hashes the images; what it has hashed is published, and it is closed.
        scratch: Folder for a temporary file of the places of images, which has the space of the record that
            is written later; None for the system's folder of temporary files.
        progress: Called with (images done, images found so far).

    Raises:
        DataError: A data set as a whole cannot be read.
        StoreError: The cache of hashes or the temporary file cannot be written.
    """
    planner = _Planner(hasher, scratch, progress or no_progress)
    with closing(hasher):
        for source in sources:
            planner.add_rows(source, len(sources) > 1)
        hasher.publish()
    return planner.plan(sources)


class _Planner:
    """Reads the rows of data sets and collects their inputs."""

    def __init__(
        self,
        hasher: ImageHasher,
        scratch: Path | None,
        progress: Progress,
    ) -> None:
        self._hasher = hasher
        self._progress = progress
        self._columns = {column: _Column(scratch) for column in IMAGE_LABELS}
        self._prompts = _Column(scratch)
        self._problems = ProblemCollector()
        self._rows = 0
        self._hashed = 0

    def add_rows(self, source: RowSource, is_one_of_several: bool) -> None:
        """Read the rows of a data set."""
        for batch in _read_ahead(source.batches()):
            problems = self._add_inputs(source, batch)
            rows = _named(batch.rows, source) if is_one_of_several else batch.rows
            self._problems.add(rows, self._rows, problems)
            self._rows += len(batch)

    def _add_inputs(self, source: RowSource, batch: RowBatch) -> list[tuple[int, str]]:
        """Add the inputs of the usable rows of a batch; return the problems: index of the row, message."""
        problems = _row_problems(source, batch)
        found = {column: self._images(source, batch.rows, column, problems) for column in IMAGE_LABELS}
        is_usable = np.ones(len(batch), bool)
        is_usable[[row for row, _ in problems]] = False
        for column, (images, codes) in found.items():
            self._columns[column].add(images.keys, images.values, codes[is_usable], images.flags)
        texts = _distinct(batch.rows["prompt"])
        keys = key_array(map(bytes_key, texts.values.to_pylist()))
        self._prompts.add(keys, texts.values, texts.codes[is_usable], np.zeros(len(keys), np.uint8))
        return problems

    def _images(
        self,
        source: RowSource,
        rows: pa.RecordBatch,
        column: str,
        problems: list[tuple[int, str]],
    ) -> tuple["_Hashed", np.ndarray]:
        """Hash the images of a column.

        Args:
            source: The data set.
            rows: B rows.
            column: "image" or "image_prompt".
            problems: Receives a problem for each row whose image cannot be read.

        Returns:
            The distinct images, and the number (B,) of each row's image, or `NONE`.
        """
        places = _distinct_places(rows[column])
        texts = [decoded(value) for value in places.values.to_pylist()]
        before = self._hashed
        hashed = self._hasher.hash(texts, lambda done, total: self._progress(before + done, before + total))
        self._hashed += len(texts)
        missing = set(hashed.missing.tolist())
        for number, reason in hashed.problems.items():
            place = texts[number]
            message = f"{IMAGE_LABELS[column]} {place}: {reason}"
            if number in missing:
                message = source.why_missing(place)
            problems.extend((row, message) for row in np.flatnonzero(places.codes == number).tolist())
        return _Hashed(hashed.keys, absolute_places(places.values), hashed.flags), places.codes

    def plan(self, sources: Sequence[RowSource]) -> Plan:
        """Return what was collected."""
        image, image_prompt = self._columns["image"], self._columns["image_prompt"]
        images, flags, numbers = _joined(image, image_prompt)
        image_codes, prompt_codes = image.codes(), image_prompt.codes()
        has_image_prompt = prompt_codes != NONE
        prompt_codes[has_image_prompt] = numbers[image.count + prompt_codes[has_image_prompt]]
        prompts, _, prompt_numbers = _joined(self._prompts)
        first = sources[0]
        inputs = DatasetInputs(
            name="+".join(distinct_names(sources)),
            data=str(first.path) if is_url(str(first.path)) else str(first.folder.resolve()),
            images=images,
            prompts=prompts,
            rows=RowNumbers(numbers[image_codes], prompt_numbers[self._prompts.codes()], prompt_codes),
            has_prompts=have_prompts(sources),
        )
        return Plan(
            inputs=inputs,
            problems=self._problems.log(),
            rows=self._rows,
            turned=int(np.count_nonzero(flags & TURNED)),
            transparent=int(np.count_nonzero(flags & TRANSPARENT)),
        )


def _read_ahead(batches: Iterator[RowBatch]) -> Iterator[RowBatch]:
    """Yield batches. While one is used, a thread reads the next one."""
    with ThreadPoolExecutor(1, "rows") as thread:
        following = thread.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, batches, None)
            yield batch


@dataclass(frozen=True)
class _Hashed:
    """Distinct images of a batch: keys (n, 32), n places, flags (n,)."""

    keys: np.ndarray
    values: pa.Array
    flags: np.ndarray


@dataclass(frozen=True)
class _Distinct:
    """The n distinct values of a column of B rows, and the number (B,) of each row's value."""

    values: pa.Array
    codes: np.ndarray


def _row_problems(source: RowSource, batch: RowBatch) -> list[tuple[int, str]]:
    """Return the problems of rows other than those of their images: the index of the row, and a message."""
    problems = [(problem.row, problem.message) for problem in batch.problems]
    with_problem = {row for row, _ in problems}
    has_no_image = pc.equal(pc.binary_length(batch.rows["image"]), 0).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(has_no_image).tolist():
        if row not in with_problem:
            problems.append((row, "the row names no image"))
    if source.has_prompts and source.needs_prompts:
        has_no_prompt = pc.equal(batch.rows["prompt"], "").to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(has_no_prompt).tolist():
            if row not in with_problem:
                problems.append((row, NO_PROMPT))
    return problems


def _named(rows: pa.RecordBatch, source: RowSource) -> pa.RecordBatch:
    """Return rows with the name of their data set before their names, and with its path as their file."""
    names = pc.binary_join_element_wise(source.name, rows["name"], "/")
    files = pc.if_else(pc.equal(rows["file"], ""), shown(str(source.path)), rows["file"])
    return rows.set_column(0, "name", names).set_column(rows.schema.get_field_index("file"), "file", files)


def _distinct(column: pa.Array) -> _Distinct:
    """Return the distinct values of a column of texts or places, as bytes."""
    by_value = pc.dictionary_encode(column.cast(pa.large_binary()))
    return _Distinct(by_value.dictionary, by_value.indices.to_numpy().astype(np.int64))


def _distinct_places(column: pa.Array) -> _Distinct:
    """Return distinct places. The number of a row with an empty one is `NONE`."""
    places = _distinct(column)
    empty = pc.index(places.values, b"").as_py()
    if empty < 0:
        return places
    is_place = np.arange(len(places.values)) != empty
    numbers = np.where(is_place, np.cumsum(is_place) - 1, NONE)
    return _Distinct(places.values.filter(pa.array(is_place)), numbers[places.codes])


class _Column:
    """The values of one column of the usable rows, and which row has which.

    The values of a batch are distinct; those of several batches may be equal.

    Args:
        scratch: Folder for the temporary file of the values.

    Attributes:
        count: Number of values.
    """

    def __init__(self, scratch: Path | None) -> None:
        self.count = 0
        self._spool = _Spool(scratch)
        self._keys = [np.empty((0, KEY_BYTES), np.uint8)]
        self._flags = [np.empty(0, np.uint8)]
        self._codes = [np.empty(0, np.int64)]

    def add(
        self,
        keys: np.ndarray,
        values: pa.Array,
        codes: np.ndarray,
        flags: np.ndarray,
    ) -> None:
        """Add the values that some rows have.

        Args:
            keys: (n, 32) uint8 keys of the values.
            values: The n values, as `encoded` returns them.
            codes: (B,) number of each row's value, or `NONE`.
            flags: (n,) uint8 flags of the values.
        """
        used = np.zeros(len(keys), bool)
        used[codes[codes != NONE]] = True
        numbers = np.append(np.where(used, np.cumsum(used) - 1 + self.count, NONE), NONE)
        self._keys.append(keys[used])
        self._flags.append(flags[used])
        self._spool.add(values.filter(pa.array(used)))
        self._codes.append(numbers[codes])  # NONE takes the last number, which is NONE
        self.count += int(used.sum())

    def codes(self) -> np.ndarray:
        """Return the number (R,) of each row's value, or `NONE`."""
        return np.concatenate(self._codes)

    def keys(self) -> np.ndarray:
        """Return the keys (N, 32) of the values."""
        return np.concatenate(self._keys)

    def flags(self) -> np.ndarray:
        """Return the flags (N,) of the values."""
        return np.concatenate(self._flags)

    def values(self) -> list[pa.Array]:
        """Return the values in pieces, memory-mapped."""
        return self._spool.values()


def _joined(*columns: _Column) -> tuple[Inputs, np.ndarray, np.ndarray]:
    """Return the distinct inputs of columns, their flags, and the number of each value of the columns."""
    keys = np.concatenate([column.keys() for column in columns])
    flags = np.concatenate([column.flags() for column in columns])
    pieces: list[pa.Array] = []
    for column in columns:
        pieces.extend(column.values())
    values = pa.chunked_array(pieces, pa.large_binary())
    distinct = DistinctKeys.of(keys)
    if len(distinct.first) < len(keys):
        is_first = np.zeros(len(keys), bool)
        is_first[distinct.first] = True
        keys, flags, values = keys[is_first], flags[is_first], values.filter(pa.array(is_first))
    return Inputs(keys, values), flags, distinct.numbers


class _Spool:
    """Values in a file without a name, which the system removes when the last process that maps it ends.

    Args:
        folder: Folder of the file; None for the system's folder of temporary files.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        with explain_write_errors(self._folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, it lives as long as the object
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, "w"), VALUES)

    def add(self, values: pa.Array) -> None:
        """Append values.

        Raises:
            StoreError: The system refuses to write.
        """
        with explain_write_errors(self._folder):
            self._writer.write_batch(pa.record_batch([values], schema=VALUES))

    def values(self) -> list[pa.Array]:
        """Return all values in pieces, memory-mapped.

        Raises:
            StoreError: The system refuses to write.
        """
        with explain_write_errors(self._folder):
            self._writer.close()
            self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        table = pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()
        return table["value"].chunks
