"""Options of an extraction."""

from tier4k.cache.errors import TierError


class ExtractionError(TierError):
    """Encoding could not go on."""


import os
from dataclasses import dataclass

from tier4k.cache.store import SHARD_ROWS


@dataclass(frozen=True)
class ExtractionOptions:
    """What changes the speed of an extraction and none of its numbers, but for rounding.

    Attributes:
        workers: Processes that read and decode pictures; 0 does it in this one.
        batch_size: Views of pictures per batch; None finds the fastest by measuring.
        text_batch_size: Texts per batch.
        device: "auto", or a torch device such as "cpu" or "cuda:1".
        compiled: Whether torch.compile makes the networks faster first.
        shard_rows: Rows per published shard.
        part: (i, n): encode the i-th of n parts of the inputs, from 1. Which part an input belongs to follows from its key alone.
    """

    workers: int
    batch_size: int | None = None
    text_batch_size: int = 64
    device: str = "auto"
    compiled: bool = False
    shard_rows: int = SHARD_ROWS
    part: tuple[int, int] = (1, 1)


def default_workers() -> int:
    """One reading process per core, at most 8."""
    return min(os.cpu_count() or 1, 8)
