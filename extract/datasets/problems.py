"""Problems of rows, collected until all of them can be reported together."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from tier4k.cache.text import shortened, shown

CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]")
"""Characters that break a line or change how a terminal writes the rest of it."""


SHOWN_PROBLEMS = 40


@dataclass(frozen=True)
class Problem:
    """One problem of one row.

    Attributes:
        row: Number of the row in the table, from 0.
        line: Number of the line in the row's file as a spreadsheet shows it (the header is line 1); 0 for an
            image that is given by itself, and for a file that cannot be read.
        name: Name of the row's image.
        message: The problem, with the value.
        file: Name of the row's file; "" if the table has only one.
    """

    row: int
    line: int
    name: str
    message: str
    file: str = ""

    def __str__(self) -> str:
        file = f"{self.file}, " if self.file and self.file != self.name else ""
        line = f"line {self.line}, " if self.line else ""
        name = on_one_line(self.name) or "(no name)"
        return f"{file}{line}{name}: {self.message}"


@dataclass(frozen=True)
class LeftOut:
    """An image that is not scored.

    Attributes:
        name: Name of the image, as in the table of the others.
        reason: Why it is not scored.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class ProblemList:
    """Collects the problems of a table, in the order in which they are found.

    Args:
        frame: The rows, with the columns `name`, `file` and `line` and the index 0 to N - 1.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._names = frame["name"].tolist()
        self._files = frame["file"].tolist()
        self._lines = frame["line"].tolist()
        self._found: list[Problem] = []

    def add(self, row: int, message: str) -> None:
        """Add a problem of one row."""
        problem = Problem(
            row, self._lines[row], self._names[row], on_one_line(shown(message)), self._files[row]
        )
        self._found.append(problem)

    def add_each(self, rows: Iterable[int], message: str) -> None:
        """Add the same problem to several rows."""
        for row in rows:
            self.add(row, message)

    @property
    def rows(self) -> set[int]:
        """Numbers of the rows that have a problem."""
        return {problem.row for problem in self._found}

    def by_row(self) -> tuple[Problem, ...]:
        """Return all problems in the order of their rows."""
        return tuple(sorted(self._found, key=lambda problem: problem.row))


def on_one_line(text: str) -> str:
    """Return a text with `CONTROLS` escaped."""
    return CONTROLS.sub(lambda found: repr(found.group())[1:-1], text)


LONGEST_PROBLEM = 300  # characters of a problem in a message


def describe_problems(
    shown_lines: Sequence[str],
    total: int,
    skipped: int,
    rows: int,
    paths: Sequence[str],
) -> str:
    """Return problems of rows as text.

    Args:
        shown_lines: The first problems.
        total: Number of problems.
        skipped: Number of rows with problems.
        rows: Number of rows.
        paths: The data sets as the user named them.
    """
    count = "1 problem" if total == 1 else f"{total:,} problems"
    lines = [f"{count} in {skipped:,} of {rows:,} rows of {' and '.join(paths)}:"]
    lines.extend(f"  {shortened(line, LONGEST_PROBLEM)}" for line in shown_lines)
    rest = total - len(shown_lines)
    if rest > 0:
        lines.append(f"  … and {rest:,} more; `tier data check DATA --problems FILE.csv` writes all of them")
    return "\n".join(lines)
