"""What a long function reports to its caller: sentences, counts, and the progress of an encoding."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.extract.pipeline.listener import Listener, Timing

_log = logging.getLogger("tier4k")


class Reporter(Protocol):
    """Receives what a long function reports."""

    def noted(self, text: str) -> None:
        """Receive a sentence, such as where weights were found."""

    def warned(self, text: str) -> None:
        """Receive a sentence that a user should read, such as how many rows are left out."""

    def counting(self, task: str) -> AbstractContextManager[Progress]:
        """Return a context for one task; it yields a function to call with (items done, items in all)."""

    def encoding(self) -> AbstractContextManager[Listener]:
        """Return a context for an encoding; it yields the listener of its progress."""


class LogReporter:
    """Writes to Python's logger "tier4k": warnings, which Python shows, and other sentences at level INFO."""

    def noted(self, text: str) -> None:
        """Log at level INFO."""
        _log.info(text)

    def warned(self, text: str) -> None:
        """Log a warning."""
        _log.warning(text)

    @contextmanager
    def counting(self, _task: str) -> Iterator[Progress]:
        """Yield a function that does nothing."""
        yield no_progress

    @contextmanager
    def encoding(self) -> Iterator[Listener]:
        """Yield a listener that logs notes and warnings."""
        yield _LogListener()


class _LogListener:
    def noted(self, text: str) -> None:
        """Log at level INFO."""
        _log.info(text)

    def warned(self, text: str) -> None:
        """Log a warning."""
        _log.warning(text)

    def started(self, stream: str, total: int) -> None:
        """Log the number of inputs of a stream."""
        _log.info(f"encode {total:,} inputs of the stream {stream}")

    def advanced(self, count: int, timing: Timing) -> None:
        """Do nothing: a log is no progress bar."""


LOG = LogReporter()
