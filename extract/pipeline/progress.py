"""What stage 1 shows on a terminal: progress while it works, a line when it is done, and what the stores hold."""

from collections.abc import Callable
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
    """Things per second."""

    def render(self, task: Task) -> Text:
        """The rate of one task."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="cyan")


def progress_bar(console: Console) -> Progress:
    """A progress display with count, rate and remaining time; it leaves nothing on the terminal when done, and is silent in a pipe."""
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class ConsoleListener:
    """Shows an extraction on a console.

    Args:
        console: Where.
        begun: Called when stores were made and encoding is about to begin.
    """

    def __init__(self, console: Console, begun: Callable[[], None] = lambda: None) -> None:
        self._progress, self._begun = progress_bar(console), begun

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, stream: str, total: int) -> None:
        """Begin a line for a stream."""
        self._begun()
        self._task = self._progress.add_task(f"encode {stream}s", total=total, note="")

    def advanced(self, count: int, timing: Timing) -> None:
        """Move the line on."""
        self._progress.update(self._task, advance=count, note=shares(timing))


def shares(timing: Timing) -> str:
    """Where the time goes: the share of reading, encoding and writing."""
    total = timing.total or 1.0
    return f"read {timing.read / total:.0%}, encode {timing.encode / total:.0%}, write {timing.write / total:.0%}"


def describe(summary: StreamSummary) -> str:
    """One line on what an encoder did."""
    if not summary.encoded:
        return f"{summary.stream} {summary.encoder}: all {summary.inputs:,} distinct inputs are in {summary.store}"
    seconds = summary.timing.total
    return (
        f"{summary.stream} {summary.encoder}: encoded {summary.encoded:,} of {summary.inputs:,} distinct inputs in {seconds:.1f} s "
        f"({summary.encoded / seconds:.1f}/s in batches of {summary.batch_size}; {shares(summary.timing)}) into {summary.store}"
    )
