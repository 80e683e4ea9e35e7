"""Output on the terminal: the console, lines, progress bars, errors, and the report of a run."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.cache.text import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from tier4k.extract.pipeline.listener import StreamSummary
    from tier4k.heads.results.run import Run

PIPE_WIDTH = 160  # columns; a pipe has no width, and 80 columns would cut every table


def make_console() -> "Console":
    """Return the console of a command.

    The console prints names of users' files and columns as they are, not as markup. If a command runs in
    several distributed processes, only the first process prints.
    """
    from rich.console import Console

    return Console(
        file=sys.stdout,  # otherwise rich takes its encoding for UTF-8
        highlight=False,
        markup=False,
        emoji=False,
        width=None if sys.stdout.isatty() else PIPE_WIDTH,
        quiet=os.environ.get("RANK", "0") != "0",
    )


def print_line(
    console: "Console",
    text: str,
    style: str | None = None,
) -> None:
    """Print one line without wrapping it, so that paths can be copied; bytes that are not UTF-8 as `\xe9`."""
    console.print(shown(text), style=style, soft_wrap=True)


def print_error(message: str) -> None:
    """Print an error to standard error, with bytes that are not UTF-8 as `\xe9`, also within quotes."""
    from rich.console import Console

    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    text = re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", shown(message))  # as `repr` writes them
    print_line(console, f"error: {text}", style="red")


def print_summaries(console: "Console", summaries: "Sequence[StreamSummary]") -> None:
    """Print one line for each encoder of an extraction."""
    from tier4k.extract.pipeline.progress import describe

    for summary in summaries:
        print_line(console, describe(summary))


def print_run(console: "Console", run: "Run") -> None:
    """Print the metrics of a run, its notes, and its folder."""
    from tier4k.heads.reporting.terminal import interval_lines, leakage, levels_table, notes, results_table
    from tier4k.heads.results.model import heads_note

    results = run.results
    console.print()
    console.print(results_table(results))
    if levels := levels_table(results):
        console.print(levels)
    for note in notes(results):
        console.print(note)
    for line in interval_lines(results):
        console.print(line)
    console.print(leakage(results))
    if kept := heads_note(run.folder):
        print_line(console, kept, style="yellow")
    print_line(console, f"{run.folder} ({_how_made(run)})")


def _how_made(run: "Run") -> str:
    if run.found:
        return "this run exists already; to fit again, delete its folder"
    return f"done in {run.seconds:.1f} s"


def print_broken_stores(console: "Console", features: Path) -> int:
    """Print the stores that cannot be opened, and return their number."""
    from tier4k.cache.listing import broken_stores

    broken = broken_stores(features)
    for message in broken.values():
        print_line(console, message, style="red")
    return len(broken)


def print_damaged_records(console: "Console", damaged: "Mapping[Path, str]") -> None:
    """Print the records of data sets that cannot be read."""
    for message in damaged.values():
        print_line(console, message, style="red")


@contextmanager
def progress_counter(console: "Console", task: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of one task; yield a function that is called with (items done, items in all)."""
    from tier4k.extract.pipeline.progress import progress_bar

    with progress_bar(console) as bar:
        task_id = bar.add_task(task, total=None, note="", visible=False)

        def show(done: int, total: int) -> None:
            """Move the bar to `done` of `total`."""
            bar.update(task_id, completed=done, total=total, visible=True)

        yield show


@contextmanager
def progress_of_tasks(console: "Console") -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of several tasks; yield a function to call with (task, items done, items in all)."""
    from tier4k.extract.pipeline.progress import progress_bar

    task_ids: dict[str, TaskID] = {}
    with progress_bar(console) as bar:

        def show(
            task: str,
            done: int,
            total: int,
        ) -> None:
            """Move the bar of a task to `done` of `total`."""
            if task not in task_ids:
                task_ids[task] = bar.add_task(task, total=total, note="")
            bar.update(task_ids[task], completed=done)

        yield show
