"""Rows to score in batches: their names, their inputs, and the keys of these."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tier4k.extract.datasets.choices import Stream
from tier4k.heads.data.features import RowKeys
from tier4k.heads.inference.scores import CONTENT_BYTES

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class KeyedRows:
    """B rows of a data set.

    Attributes:
        rows: Record batch with the columns of `tier4k.extract.datasets.rows.source.RowBatch`; `file` is the
            whole path of the table, archive or folder that holds the row.
        keys: Keys of the inputs; zeros where a row has a problem.
        reasons: Rows that cannot be scored, with the reason.
    """

    rows: "pa.RecordBatch"
    keys: RowKeys
    reasons: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.rows.num_rows

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return self.rows.column("name").to_pylist()

    @property
    def prompts(self) -> list[str]:
        """Text prompts."""
        return self.rows.column("prompt").to_pylist()

    @property
    def images(self) -> list[str]:
        """Places of the images."""
        return self._places("image")

    @property
    def image_prompts(self) -> list[str | None]:
        """Places of the image prompts, None where a row has none."""
        return [place or None for place in self._places("image_prompt")]

    def _places(self, column: str) -> list[str]:
        return [os.fsdecode(place) for place in self.rows.column(column).to_pylist()]

    def take(self, numbers: np.ndarray) -> "KeyedRows":
        """Return rows without a problem, by their numbers."""
        return KeyedRows(self.rows.take(numbers), self.keys.take(numbers))

    def content(self, inputs: Sequence[Stream]) -> np.ndarray:
        """Return an identity of the inputs of each row, (B,) byte strings of `CONTENT_BYTES`.

        It is the beginning of the SHA-256 of the keys of the row's inputs, in the order of `inputs`; a
        missing image prompt counts as zeros.
        """
        keys = np.concatenate([self.keys.of_stream(stream) for stream in inputs], axis=1)
        return digests(bytes(key) for key in keys)


def digests(values: Iterable[bytes]) -> np.ndarray:
    """Return the beginning of the SHA-256 of each of N values, (N,) byte strings of `CONTENT_BYTES`."""
    joined = b"".join(hashlib.sha256(value).digest()[:CONTENT_BYTES] for value in values)
    return np.frombuffer(joined, f"S{CONTENT_BYTES}")
