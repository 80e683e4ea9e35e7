"""Progress and outcome of stage 1 on a terminal."""

from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tier4k.extract.pipeline.listener import StreamSummary, Timing


class RateColumn(ProgressColumn):
    """Column of a progress bar that shows items per second."""

    def render(self, task: Task) -> Text:
        """Return the items per second of one task."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="cyan")


def progress_bar(console: Console) -> Progress:
    """Return a display of count, rate and remaining time.

    The display disappears from the terminal at the end, and shows nothing in a pipe. Each task needs a field
    `note`, which is shown last.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def notes_printer(console: Console) -> Callable[[str], None]:
    """Return a function that prints a note; a note that it printed before is skipped."""
    return cache(lambda text: console.print(f"note: {text}", soft_wrap=True))


class ConsoleListener:
    """Shows the progress of an extraction on a console."""

    def __init__(self, console: Console) -> None:
        self._progress = progress_bar(console)
        self._print_note = notes_printer(console)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def noted(self, text: str) -> None:
        """Print a note; a note that was printed before is skipped."""
        self._print_note(text)

    def warned(self, text: str) -> None:
        """Print a warning."""
        self._progress.console.print(text, style="yellow", soft_wrap=True)

    def started(self, stream: str, total: int) -> None:
        """Show a progress bar for a stream."""
        self._task = self._progress.add_task(f"encode {stream}s", total=total, note="")

    def advanced(self, count: int, timing: Timing) -> None:
        """Advance the progress bar, and show the shares of the time."""
        self._progress.update(self._task, advance=count, note=shares(timing))


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
