"""Options of an extraction, and its error."""

import os
from dataclasses import dataclass

from tier4k.cache.errors import TierError
from tier4k.cache.writer import SHARD_ROWS


class ExtractionError(TierError):
    """Inputs that cannot be encoded."""


@dataclass(frozen=True)
class ExtractionOptions:
    """Options that change the speed of an extraction, and its features by no more than rounding.

    Attributes:
        workers: Processes that read and decode images; 0 reads in the encoding process.
        batch_size: Crops of images per batch; None finds the fastest by measuring.
        text_batch_size: Texts per batch.
        device: "auto", or a torch device such as "cpu" or "cuda:1".
        compiled: Whether torch.compile compiles the networks first.
        shard_rows: Rows per published shard.
        part: (i, n): encode the i-th of n parts of the inputs, from 1. The part of an input follows from its
            key alone.
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
