"""Stage 1: every distinct input that a store does not hold yet is read, encoded and written, once.

This module decides what is to be done; `extract.encode`, and with it torch, is imported only where something is.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from cache.keys import key_array
from cache.store import SHARD_ROWS, FeatureStore
from extract.encoders import ImageEncoder, TextEncoder
from extract.manifest import Manifest


@dataclass(frozen=True)
class ExtractionOptions:
    """What changes the speed of an extraction and none of its numbers.

    Attributes:
        workers: Processes that read and decode pictures; 0 does it in this one.
        batch_size: Pictures per batch.
        text_batch_size: Texts per batch.
        device: "auto", or a torch device such as "cpu" or "cuda:1".
        shard_rows: Rows per published shard.
        part: (i, n): encode the i-th of n parts of the inputs, from 1. Which part an input belongs to follows from its key alone.
    """

    workers: int
    batch_size: int = 16
    text_batch_size: int = 64
    device: str = "auto"
    shard_rows: int = SHARD_ROWS
    part: tuple[int, int] = (1, 1)


def default_workers() -> int:
    """One reading process per core, at most 8."""
    return min(os.cpu_count() or 1, 8)


@dataclass
class Timing:
    """Seconds spent so far waiting for input, encoding and writing."""

    read: float = 0.0
    encode: float = 0.0
    write: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.read + self.encode + self.write

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time spent inside to `part`."""
        start = perf_counter()
        try:
            yield
        finally:
            setattr(self, part, getattr(self, part) + perf_counter() - start)


class Listener(Protocol):
    """Told how far an extraction has come."""

    def started(self, stream: str, total: int) -> None:
        """`total` inputs of the stream are about to be encoded; the network is loaded."""

    def advanced(self, count: int, timing: Timing) -> None:
        """`count` more inputs are encoded."""


@dataclass(frozen=True)
class StreamSummary:
    """What one encoder did.

    Attributes:
        stream: "image" or "text".
        store: Folder of the store.
        inputs: Distinct inputs of the data set, or of the part of it that was asked for.
        encoded: How many of them were encoded now; the others were there.
        timing: Where the time went, without loading the network.
    """

    stream: str
    store: Path
    inputs: int
    encoded: int
    timing: Timing = field(default_factory=Timing)


def extract(
    manifest: Manifest,
    encoders: Sequence[ImageEncoder | TextEncoder],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
) -> list[StreamSummary]:
    """Encode what the stores under `root` do not hold yet: pictures and image prompts, and text prompts.

    Args:
        manifest: The data set.
        encoders: Each fills its own store.
        root: Folder of stores.
        options: Batch sizes, device, workers.
        listener: Told of the progress.

    Raises:
        ExtractionError: The device is not there, or a picture changed since it was checked.
        WeightsError: The weights do not fit the network.
        StoreError: A store cannot be written.
    """
    return [_extract_stream(manifest, encoder, root, options, listener) for encoder in encoders]


def _extract_stream(
    manifest: Manifest, encoder: ImageEncoder | TextEncoder, root: Path, options: ExtractionOptions, listener: Listener
) -> StreamSummary:
    inputs = manifest.pictures() if isinstance(encoder, ImageEncoder) else manifest.prompts()
    number, parts = options.part
    inputs = inputs[np.array([int(key[:8], 16) % parts == number - 1 for key in inputs.index], dtype=bool)]
    path = root / encoder.signature.folder_name
    todo = inputs
    if path.exists():
        todo = inputs[~FeatureStore.open(path).holds(key_array(map(bytes.fromhex, inputs.index)))]
    summary = StreamSummary(encoder.signature.stream, path, len(inputs), len(todo))
    if len(todo):
        from extract.encode import encode_pictures, encode_texts

        encode = encode_pictures if isinstance(encoder, ImageEncoder) else encode_texts
        encode(encoder, todo, root, options, summary.timing, listener)  # type: ignore[arg-type]
    return summary
