"""Problems of rows, collected until all of them can be reported together."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from tier4k.cache.text import shown

HEADER_LINES = 1


@dataclass(frozen=True)
class Problem:
    """One problem of one row.

    Attributes:
        line: Number of the line in the table's file as a spreadsheet shows it (the header is line 1).
        name: Name of the row's image.
        message: The problem, with the value.
    """

    line: int
    name: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.name or '(no name)'}: {self.message}"


class ProblemList:
    """Collects the problems of a table, in the order in which they are found.

    Args:
        frame: The rows, with the column `name` and the numbers of the rows in the file as index.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._names = dict(zip(line_numbers(frame), frame["name"], strict=True))
        self._found: list[Problem] = []

    def add(self, line: int, message: str) -> None:
        """Add a problem of one line."""
        self._found.append(Problem(line, self._names[line], shown(message)))

    def add_each(self, lines: Iterable[int], message: str) -> None:
        """Add the same problem to several lines."""
        for line in lines:
            self.add(line, message)

    @property
    def lines(self) -> set[int]:
        """Numbers of the lines that have a problem."""
        return {problem.line for problem in self._found}

    def by_line(self) -> tuple[Problem, ...]:
        """Return all problems in the order of their lines."""
        return tuple(sorted(self._found, key=lambda problem: problem.line))


def line_numbers(frame: pd.DataFrame) -> list[int]:
    """Return the line of each row in the file of a table, whose index counts rows from 0."""
    first = HEADER_LINES + 1
    return [int(row) + first for row in frame.index]
