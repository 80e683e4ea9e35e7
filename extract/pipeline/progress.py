"""Progress and outcome of stage 1, as texts and tasks."""

from collections.abc import Callable

from tier4k.extract.pipeline.listener import StreamSummary, Timing
from tier4k.extract.screen.tasks import ShowTask


class TaskListener:
    """Shows the progress of an extraction.

    Args:
        show: Shows how far a task is.
        note, warn: Print a note and a warning; a note is printed once.
    """

    def __init__(
        self,
        show: ShowTask,
        note: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._show = show
        self._note = note
        self._warn = warn

    def noted(self, text: str) -> None:
        """Print a note; a note that was printed before is skipped."""
        self._note(text)

    def warned(self, text: str) -> None:
        """Print a warning."""
        self._warn(text)

    def started(self, stream: str, total: int) -> None:
        """Show that no input of a stream is encoded yet."""
        self._task, self._done, self._total = f"encode {stream}s", 0, total
        self._show(self._task, 0, total)

    def advanced(self, count: int, timing: Timing) -> None:
        """Show the encoded inputs, and the shares of the time."""
        self._done += count
        self._show(self._task, self._done, self._total, shares(timing))


def shares(timing: Timing) -> str:
    """Return the percentages of the time that reading, encoding and writing took, as text."""
    total = timing.total or 1.0
    read = timing.read / total
    encode = timing.encode / total
    write = timing.write / total
    return f"read {read:.0%}, encode {encode:.0%}, write {write:.0%}"


def describe(summary: StreamSummary) -> str:
    """Return a line of text about the outcome for one encoder."""
    name = f"{summary.stream} {summary.encoder}"
    if not summary.encoded and summary.unreadable:
        return f"{name}: encoded none of {summary.inputs:,} distinct inputs, as no missing one can be read"
    if not summary.encoded:
        return f"{name}: all {summary.inputs:,} distinct inputs are in {summary.store}"
    seconds = summary.timing.total
    inputs_per_second = summary.encoded / seconds
    speed = f"{inputs_per_second:.1f}/s in batches of {summary.batch_size}; {shares(summary.timing)}"
    encoded = (
        f"encoded {summary.encoded:,} of {summary.inputs:,} distinct inputs in {seconds:.1f} s ({speed})"
    )
    return f"{name}: {encoded} into {summary.store}"
