"""What an extraction reports: progress, timing and a summary per encoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Protocol


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
