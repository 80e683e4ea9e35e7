"""Cells and tables in Markdown, as docs/benchmarks.md has them."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.reporting.comparison import Comparison


def number(value: float, digits: int = 3) -> str:
    """Format a number without the zero before its point."""
    text = f"{value:.{digits}f}"
    return re.sub(r"^(-?)0\.", r"\1.", text)


def cell(summary: Summary, interval: bool = True) -> str:
    """Format mean ± standard deviation [95 % interval of the recipe on new prompts]."""
    if np.isnan(summary.mean):
        return "none"
    text = number(summary.mean)
    if np.isfinite(summary.sd):
        text += f" ± {number(summary.sd)}"
    if interval and summary.interval:
        text += f" [{number(summary.interval[0])}, {number(summary.interval[1])}]"
    return text


def p_text(p: float) -> str:
    """Format a p-value; it is NaN where the recipe has none."""
    if np.isnan(p):
        return "no p"
    return "p < .001" if p < 0.001 else f"p {number(p)}"


def difference(comparison: Comparison) -> str:
    """Format the difference of two runs with its interval and its p after Holm's correction."""
    low, high = comparison.interval
    return f"{number(comparison.difference)} [{number(low)}, {number(high)}], {p_text(comparison.p_holm)}"


def span(values: Iterable[float]) -> str:
    """Format a range of numbers."""
    ordered = sorted(values)
    return " to ".join(dict.fromkeys([number(ordered[0]), number(ordered[-1])]))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [_line(header), "|" + "---|" * len(header), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def with_table(page: str, name: str, text: str) -> str:
    """Return a page in Markdown with a table between its marks, <!-- table: NAME --> and <!-- end -->.

    Raises:
        ValueError: The page has no such marks, or has them twice.
    """
    pattern = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    changed, count = pattern.subn(lambda marks: f"{marks[1]}{text}\n{marks[2]}", page)
    if count != 1:
        raise ValueError(
            f"the page has {count} places for the table {name!r}: mark one with <!-- table: {name} -->"
        )
    return changed
