"""The one shape of progress callbacks."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def no_progress(done: int, total: int) -> None:
    """Show no progress."""
