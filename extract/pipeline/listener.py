"""Reports of an extraction: progress, timing, and a summary for each encoder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal, Protocol


@dataclass
class Timing:
    """Seconds spent so far waiting for inputs, for the network, and for the writing of features.

    Threads read and write beside the network: their own time is longer.
    """

    read: float = 0.0
    encode: float = 0.0
    write: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of reading, encoding and writing together."""
        return self.read + self.encode + self.write

    @contextmanager
    def measure(self, part: Literal["read", "encode", "write"]) -> Iterator[None]:
        """Add the seconds spent in the context to the attribute `part`."""
        start = perf_counter()
        try:
            yield
        finally:
            seconds = getattr(self, part) + perf_counter() - start
            setattr(self, part, seconds)


def mean_timing(timings: Sequence[Timing]) -> Timing:
    """Return the mean of the times of devices that work at the same time."""
    count = len(timings)
    return Timing(
        read=sum(timing.read for timing in timings) / count,
        encode=sum(timing.encode for timing in timings) / count,
        write=sum(timing.write for timing in timings) / count,
    )


@dataclass(frozen=True)
class UnreadableImage:
    """An image that was left out.

    Attributes:
        place: Place of the image.
        reason: Why it cannot be read.
    """

    place: str
    reason: str


@dataclass(frozen=True)
class FailedUnit:
    """Inputs that were read and encoded together, in vain.

    Attributes:
        inputs: Places of their images, or their texts.
        count: Number of inputs.
        reason: Why the last attempt failed.
    """

    inputs: tuple[str, ...]
    count: int
    reason: str


@dataclass(frozen=True)
class Encoding:
    """Outcome of encoding with one encoder.

    Attributes:
        encoded: Number of inputs that were encoded.
        batch_size: The final batch size.
        timing: Seconds spent on reading, encoding and writing.
        unreadable: Images that were left out.
        failed: Units that were given up.
    """

    encoded: int
    batch_size: int
    timing: Timing
    unreadable: tuple[UnreadableImage, ...] = ()
    failed: tuple[FailedUnit, ...] = ()


class Listener(Protocol):
    """Receives the progress of an extraction."""

    def noted(self, text: str) -> None:
        """Receive a note for the user about a loaded network, or about what will be written."""

    def warned(self, text: str) -> None:
        """Receive a warning about the prompts of a data set, before they are encoded."""

    def started(self, stream: str, total: int) -> None:
        """Receive the number of distinct inputs of a stream to encode, once the networks are loaded."""

    def advanced(self, count: int, timing: Timing) -> None:
        """Receive the number of inputs encoded or left out since the last call, and the time so far."""


@dataclass(frozen=True)
class StreamSummary:
    """Outcome of an extraction for one encoder.

    Attributes:
        stream: "image", "text" or "score".
        encoder: Name of the encoder.
        store: Folder of the store.
        inputs: Number of distinct inputs, templates included, or of those of the requested part.
        encoded: Number of inputs that were encoded now; the rest were stored before.
        batch_size: Final number of crops or texts per batch; None if nothing was encoded.
        timing: Seconds spent on reading, encoding and writing, without loading the network. Encoders that run
            together have one timing.
        unreadable: Images that were left out, because they cannot be read or changed since they were checked.
            Encoders that run together have one list.
        failed: Units that were given up. Encoders that run together have one list.
    """

    stream: str
    encoder: str
    store: Path
    inputs: int
    encoded: int
    batch_size: int | None = None
    timing: Timing = field(default_factory=Timing)
    unreadable: tuple[UnreadableImage, ...] = ()
    failed: tuple[FailedUnit, ...] = ()
