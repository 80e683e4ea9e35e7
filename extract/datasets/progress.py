"""The one shape of progress callbacks."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total)."""
