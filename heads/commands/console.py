"""Output of a command: tables, results, notes, warnings, progress, errors, and the report of a run."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.cache.text import shown, without_long_lines
from tier4k.extract.screen.choices import TableFormat

if TYPE_CHECKING:
    from rich import console as rich_console
    from rich.text import Text

    from tier4k.extract.pipeline.listener import StreamSummary
    from tier4k.extract.screen.table import Table
    from tier4k.extract.screen.tasks import ShowTask
    from tier4k.heads.results.run import Run

PIPE_WIDTH = 160  # columns of a pipe without COLUMNS

SMALLEST_WIDTH = 20  # columns; a smaller COLUMNS is no width


class Console:
    """Prints what a command has to say.

    Everything is printed to standard output. With a format for programs or documents, standard output has
    tables only, and all else is printed to standard error. Names of users' files and columns are printed as
    they are, not as markup. If a command runs in several distributed processes, only the first one prints.

    Args:
        table_format: The format of tables.
        quiet: Whether notes and progress are left out.
    """

    def __init__(self, table_format: TableFormat = "table", quiet: bool = False) -> None:
        self._format = table_format
        self._is_first = os.environ.get("RANK", "0") == "0"
        self._is_quiet = quiet
        self._screen = _rich_console(sys.stdout if table_format == "table" else sys.stderr)
        self._screen.quiet = not self._is_first
        self._tables = 0  # printed so far

    @property
    def is_for_terminal(self) -> bool:
        """Whether tables are fitted into the width of a terminal."""
        return self._format == "table"

    @property
    def is_for_programs(self) -> bool:
        """Whether tables are printed with raw values."""
        return self._format in ("csv", "json")

    def show(self, table: "Table") -> None:
        """Print a table in the chosen format."""
        from tier4k.extract.screen.formats import PROGRAM_FORMATS, as_markdown
        from tier4k.extract.screen.terminal import print_table

        if not self._is_first:
            return
        if self._format == "table":
            print_table(self._screen, table)
        else:
            if self._tables and self._format == "md":
                sys.stdout.write("\n")  # two tables without an empty line would be one table
            sys.stdout.write(shown(PROGRAM_FORMATS.get(self._format, as_markdown)(table)))
        self._tables += 1

    def result(self, text: str) -> None:
        """Print a line with a path that was written; it is never broken."""
        self._print_whole(text)

    def warn(self, text: str, style: str = "yellow") -> None:
        """Print a sentence that the user should read."""
        self._print(text, style)

    def note(self, text: str, style: str | None = None) -> None:
        """Print a sentence, unless the command is quiet."""
        if not self._is_quiet:
            self._print(text, style)

    def command(self, text: str) -> None:
        """Print a command to copy, unless the command is quiet; it is never broken."""
        if not self._is_quiet:
            self._print_whole(text)

    def explain(self, text: "Text") -> None:
        """Print a sentence about a result: a yellow one is a warning, another one a note."""
        say = self.warn if text.style == "yellow" else self.note
        say(text.plain, str(text.style))

    def tasks(self) -> "AbstractContextManager[ShowTask]":
        """Show the progress of tasks: bars on a terminal, else one line a minute on standard error."""
        from tier4k.extract.screen.tasks import show_nothing, task_bars, task_log

        if self._is_quiet or not self._is_first:
            return nullcontext(show_nothing)
        return task_bars(self._screen) if self._screen.is_terminal else task_log()

    @contextmanager
    def task(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Show the progress of one task; yield a function to call with (items done, items in all)."""
        with self.tasks() as show:
            yield lambda done, total: show(name, done, total)

    def notes_once(self) -> Callable[[str], None]:
        """Return a function that prints a note; a note that it printed before is skipped."""
        return cache(lambda text: self.note(f"note: {text}"))

    def _print(self, text: str, style: str | None) -> None:
        """Print a sentence; a pipe without a width gets it as one line."""
        from tier4k.extract.screen.terminal import print_sentence

        if self._screen.is_terminal or _columns():
            print_sentence(self._screen, shown(text), style)
        else:
            self._print_whole(text, style)

    def _print_whole(self, text: str, style: str | None = None) -> None:
        from tier4k.extract.screen.terminal import print_whole

        print_whole(self._screen, shown(text), style)


def print_error(message: str) -> None:
    """Print an error to standard error, with bytes that are not UTF-8 as `\xe9`, also within quotes."""
    from tier4k.extract.screen.terminal import print_whole

    whole = shown(without_long_lines(message))
    text = re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", whole)  # as `repr` writes them
    print_whole(_rich_console(sys.stderr), f"error: {text}", "red")


def _rich_console(stream: object) -> "rich_console.Console":
    from rich import console as rich_console

    return rich_console.Console(
        file=stream,  # type: ignore[arg-type]  # otherwise rich takes its encoding for UTF-8
        highlight=False,
        markup=False,
        emoji=False,
        width=_columns() or (None if stream.isatty() else PIPE_WIDTH),  # type: ignore[attr-defined]
    )


def _columns() -> int | None:
    """Return the width that the user demands, for a terminal or a pipe."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) >= SMALLEST_WIDTH else None


def print_summaries(console: Console, summaries: "Sequence[StreamSummary]") -> None:
    """Print one line for each encoder of an extraction."""
    from tier4k.extract.pipeline.progress import describe

    for summary in summaries:
        console.note(describe(summary))


def print_runs(console: Console, runs: "Sequence[Run]") -> None:
    """Print the metrics of runs, their notes, and their folders; for programs as one table."""
    from tier4k.extract.screen.table import joined, with_value
    from tier4k.heads.reporting.terminal.results import results_table

    if console.is_for_programs:
        tables = [with_value(results_table(run.results), "folder", str(run.folder)) for run in runs]
        console.show(joined(tables))
    for run in runs:
        _print_run(console, run)


def _print_run(console: Console, run: "Run") -> None:
    from tier4k.heads.reporting.terminal.notes import interval_lines, leakage, notes
    from tier4k.heads.reporting.terminal.results import levels_table, results_table
    from tier4k.heads.results.read_model import heads_note

    results = run.results
    console.note("")
    if not console.is_for_programs:
        console.show(results_table(results))
        if levels := levels_table(results):
            console.show(levels)
    for text in (*notes(results), *interval_lines(results), leakage(results)):
        console.explain(text)
    if kept := heads_note(run.folder):
        console.warn(kept)
    console.result(f"{run.folder} ({_how_made(run)})")


def _how_made(run: "Run") -> str:
    if run.found:
        return "this run exists already; to fit again, delete its folder"
    return f"done in {run.seconds:.1f} s"


def print_broken_stores(console: Console, features: Path) -> int:
    """Print the stores that cannot be opened, and return their number."""
    from tier4k.cache.listing import broken_stores

    broken = broken_stores(features)
    for message in broken.values():
        console.warn(message, "red")
    return len(broken)


def print_damaged_records(console: Console, damaged: Mapping[Path, str]) -> None:
    """Print the records of data sets that cannot be read."""
    for message in damaged.values():
        console.warn(message, "red")
