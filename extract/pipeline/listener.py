"""What an extraction reports: progress, timing, and a summary per encoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal, Protocol


@dataclass
class Timing:
    """Seconds spent so far waiting for inputs, encoding and writing."""

    read: float = 0.0
    encode: float = 0.0
    write: float = 0.0

    @property
    def total(self) -> float:
        """Sum of all three."""
        return self.read + self.encode + self.write

    @contextmanager
    def measure(self, part: Literal["read", "encode", "write"]) -> Iterator[None]:
        """Add the time spent inside to `part`."""
        start = perf_counter()
        try:
            yield
        finally:
            seconds = getattr(self, part) + perf_counter() - start
            setattr(self, part, seconds)


@dataclass(frozen=True)
class Encoding:
    """Outcome of encoding with one encoder.

    Attributes:
        batch_size: The final batch size.
        timing: Where the time went.
    """

    batch_size: int
    timing: Timing


class Listener(Protocol):
    """Receives the progress of an extraction."""

    def started(self, stream: str, total: int) -> None:
        """`total` distinct inputs of a stream will be encoded; the networks are loaded."""

    def advanced(self, count: int, timing: Timing) -> None:
        """`count` more inputs are encoded."""


@dataclass(frozen=True)
class StreamSummary:
    """Outcome of an extraction for one encoder.

    Attributes:
        stream: "image", "text" or "score".
        encoder: Its name.
        store: Folder of the store.
        inputs: Distinct inputs of the data set, or of the part that was requested.
        encoded: Number of them that were encoded now; the others were stored before.
        batch_size: Final number of crops or texts per batch, None where nothing was encoded.
        timing: Where the time went, without loading the network. Encoders that run together share the
            reading.
    """

    stream: str
    encoder: str
    store: Path
    inputs: int
    encoded: int
    batch_size: int | None = None
    timing: Timing = field(default_factory=Timing)
