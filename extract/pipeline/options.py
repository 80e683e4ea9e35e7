"""Options of an extraction, and the error that it raises."""

import os
from dataclasses import dataclass

from tier4k.cache.errors import TierError
from tier4k.cache.writer import SHARD_ROWS


class ExtractionError(TierError):
    """Inputs cannot be encoded."""


@dataclass(frozen=True)
class ExtractionOptions:
    """Options that change the speed of an extraction, but its features only by rounding.

    Attributes:
        workers: Number of processes that read and decode images; with 0, the encoding process reads them.
        batch_size: Number of crops per batch; None finds the fastest by measuring.
        text_batch_size: Number of texts per batch.
        device: "auto", or a torch device such as "cpu" or "cuda:1".
        compiled: Whether torch.compile compiles the networks first.
        shard_rows: Largest number of rows collected before a shard is published.
        part: (i, n): encode the i-th of n parts of the inputs, counted from 1. The key of an input alone
            decides to which part the input belongs.
    """

    workers: int
    batch_size: int | None = None
    text_batch_size: int = 64
    device: str = "auto"
    compiled: bool = False
    shard_rows: int = SHARD_ROWS
    part: tuple[int, int] = (1, 1)


def default_workers() -> int:
    """Return the number of reading processes: one per core, at most 8."""
    return min(os.cpu_count() or 1, 8)
