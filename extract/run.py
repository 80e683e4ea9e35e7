"""Stage 1: every distinct input that a store does not hold yet is read, encoded and written, once.

This module decides what is to be done; `extract.encode`, and with it torch, is imported only where something is.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from cache.keys import key_array
from cache.store import SHARD_ROWS, SIGNATURE_FILE, FeatureStore
from extract.allocator import keep_freed_memory
from extract.encoders import ImageEncoder, TextEncoder
from extract.manifest import Manifest
from extract.scorers import Scorer

Encoder = ImageEncoder | TextEncoder | Scorer


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


@dataclass(frozen=True)
class Encoding:
    """How the encoding of one encoder went: its batch size in the end, and where the time went."""

    batch_size: int
    timing: Timing


class Listener(Protocol):
    """Told how far an extraction has come."""

    def started(self, stream: str, total: int) -> None:
        """`total` distinct inputs of the stream are about to be encoded; the networks are loaded."""

    def advanced(self, count: int, timing: Timing) -> None:
        """`count` more inputs are encoded."""


@dataclass(frozen=True)
class StreamSummary:
    """What one encoder did.

    Attributes:
        stream: "image", "text" or "score".
        encoder: Its name.
        store: Folder of the store.
        inputs: Distinct inputs of the data set, or of the part of it that was asked for.
        encoded: How many of them were encoded now; the others were there.
        batch_size: Views or texts per batch in the end, None where nothing was encoded.
        timing: Where the time went, without loading the network. Encoders that worked together share the reading.
    """

    stream: str
    encoder: str
    store: Path
    inputs: int
    encoded: int
    batch_size: int | None = None
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True)
class Work:
    """One encoder with the inputs that its store does not hold yet.

    Attributes:
        encoder: The encoder.
        inputs: All distinct inputs, indexed by key in hexadecimal: paths, texts, or, of a scorer, lines of `Manifest.pairs`.
        missing: (N,) bool: which of them are to be encoded.
    """

    encoder: Encoder
    inputs: Any
    missing: np.ndarray

    @classmethod
    def of(cls, manifest: Manifest, encoder: Encoder, root: Path, part: tuple[int, int]) -> "Work":
        """What an encoder has to do on its part of a data set."""
        inputs: Any = {"image": manifest.pictures, "text": manifest.prompts, "score": manifest.pairs}[encoder.signature.stream]()
        number, parts = part
        inputs = inputs[np.array([int(key[:8], 16) % parts == number - 1 for key in inputs.index], dtype=bool)]
        missing = np.ones(len(inputs), dtype=bool)
        path = root / encoder.signature.folder_name
        if (path / SIGNATURE_FILE).exists():  # a folder without it was being made when its maker was killed
            missing = ~FeatureStore.open(path).holds(key_array(map(bytes.fromhex, inputs.index)))
        return cls(encoder, inputs, missing)

    @property
    def keys(self) -> np.ndarray:
        """Keys (N, 32) of the inputs."""
        return key_array(map(bytes.fromhex, self.inputs.index))


def extract(
    manifest: Manifest,
    encoders: Sequence[Encoder],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
) -> list[StreamSummary]:
    """Encode what the stores under `root` do not hold yet: pictures and image prompts, text prompts, and pairs of both.

    Each picture is read and decoded once for all image encoders, and once for each scorer.

    Args:
        manifest: The data set.
        encoders: Each fills its own store; two of the same signature are one.
        root: Folder of stores.
        options: Batch sizes, device, workers.
        listener: Told of the progress.

    Raises:
        ExtractionError: The device is not there, or a picture changed since it was checked.
        WeightsError: The weights do not fit the network.
        StoreError: A store cannot be written.
    """
    distinct = {encoder.signature: encoder for encoder in encoders}.values()
    works = [Work.of(manifest, encoder, root, options.part) for encoder in distinct]
    pictures = [work for work in works if isinstance(work.encoder, ImageEncoder)]
    others = [[work] for work in works if not isinstance(work.encoder, ImageEncoder)]
    return [summary for together in (pictures, *others) for summary in _encode(together, root, options, listener)]


def _encode(works: Sequence[Work], root: Path, options: ExtractionOptions, listener: Listener) -> list[StreamSummary]:
    needed = [work for work in works if work.missing.any()]
    reports: list[Encoding] = []
    if needed:
        keep_freed_memory()
        from extract.encode import encode

        reports = encode(needed, root, options, listener)
    done = {work.encoder.signature: report for work, report in zip(needed, reports, strict=True)}
    return [_summary(work, root, done.get(work.encoder.signature)) for work in works]


def _summary(work: Work, root: Path, report: "Encoding | None") -> StreamSummary:
    signature = work.encoder.signature
    path, encoded = root / signature.folder_name, int(work.missing.sum())
    if report is None:
        return StreamSummary(signature.stream, signature.encoder, path, len(work.inputs), encoded)
    return StreamSummary(signature.stream, signature.encoder, path, len(work.inputs), encoded, report.batch_size, report.timing)
