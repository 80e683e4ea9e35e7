"""The progress of tasks: bars on a terminal, one line a minute in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

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

INTERVAL = 60.0  # seconds between two lines of a log


class ShowTask(Protocol):
    """Shows how far a task is."""

    def __call__(
        self,
        task: str,
        done: int,
        total: int,
        note: str = "",
    ) -> None:
        """Show that `done` of `total` items of a task are done."""


class RateColumn(ProgressColumn):
    """Column of a progress bar that shows items per second."""

    def render(self, task: Task) -> Text:
        """Return the items per second of one task."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="cyan")


def show_nothing(
    task: str,
    done: int,
    total: int,
    note: str = "",
) -> None:
    """Show no progress."""


@contextmanager
def task_bars(console: Console) -> Iterator[ShowTask]:
    """Show a bar with count, rate and remaining time for each task; the bars disappear at the end."""
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
    numbers = {}
    with Progress(*columns, console=console, transient=True) as bars:

        def show(
            task: str,
            done: int,
            total: int,
            note: str = "",
        ) -> None:
            """Move the bar of a task."""
            if task not in numbers:
                numbers[task] = bars.add_task(task, total=total, note=note)
            bars.update(numbers[task], completed=done, total=total, note=note)

        yield show


@contextmanager
def task_log(clock: Callable[[], float] = time.monotonic) -> Iterator[ShowTask]:
    """Write a line for each task to standard error: after every minute, and at the end of a long task.

    A task that takes less than a minute writes no line.

    Args:
        clock: Returns the time in seconds.
    """
    tasks: dict[str, _LoggedTask] = {}

    def show(
        task: str,
        done: int,
        total: int,
        note: str = "",
    ) -> None:
        """Write a line if a minute has passed since the last one."""
        now = clock()
        if task not in tasks:
            tasks[task] = _LoggedTask(task, done, now, now, done, total)
        tasks[task].advance(done, total, note, now)

    try:
        yield show
    finally:
        for logged in tasks.values():
            logged.end(clock())


@dataclass
class _LoggedTask:
    """A task in a log; times are in seconds, `first` is what was done at its start."""

    name: str
    first: int
    start: float
    last_line: float
    done: int
    total: int
    is_long: bool = False

    def advance(
        self,
        done: int,
        total: int,
        note: str,
        now: float,
    ) -> None:
        """Write a line if a minute has passed since the last one."""
        self.done, self.total = done, total
        if now - self.last_line < INTERVAL or done >= total:
            return
        self.is_long, self.last_line = True, now
        rate = self._rate(now)
        left = f"{duration((total - done) / rate)} left" if rate else "remaining time unknown"
        self._write(", ".join(filter(None, (rate_text(rate), left, note))))

    def end(self, now: float) -> None:
        """Write the last line of a task that took longer than a minute."""
        if self.is_long or now - self.start >= INTERVAL:
            self._write(f"{rate_text(self._rate(now))}, ended after {duration(now - self.start)}")

    def _rate(self, now: float) -> float:
        return (self.done - self.first) / (now - self.start)

    def _write(self, text: str) -> None:
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        sys.stderr.write(f"{self.name}: {self.done:,} of {self.total:,}{share}, {text}\n")
        sys.stderr.flush()


def rate_text(rate: float) -> str:
    """Return items per second as text; per minute or hour where they are fewer."""
    if rate >= 1 or not rate:
        return f"{rate:.1f}/s"
    return f"{rate * 60:.1f}/min" if rate * 60 >= 1 else f"{rate * 3600:.1f}/h"


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
