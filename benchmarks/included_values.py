"""Write measured values from docs/benchmarks.md into README.md and the other pages.

    python benchmarks/included_values.py            # print the values that differ; exit code 1 if any do
    python benchmarks/included_values.py --write    # put the values of docs/benchmarks.md in their place

In a page, a value stands between `<!-- measured: TABLE; ROW; COLUMN -->` and `<!-- end -->`. TABLE stands in
the mark `<!-- table: TABLE -->` of docs/benchmarks.md; ROW is the first cell of the row, COLUMN the
title of the column, both without backticks.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "docs" / "benchmarks.md"
INCLUDED = re.compile(r"(<!-- measured: ([^;>]+); ([^;>]+); ([^;>]+) -->)(.*?)(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """Return the pages that may include values."""
    return [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path != SOURCE)]


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table in Markdown, without backticks."""
    return [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]


def measured(source: str, table: str, row: str, column: str) -> str:
    """Return a cell of a table.

    Args:
        source: The text of docs/benchmarks.md.
        table: Name of the table in its mark.
        row: First cell of the row.
        column: Title of the column.

    Raises:
        ValueError: There is no such table, row or column, or several have the name.
    """
    marked = re.findall(rf"<!-- table: {re.escape(table)} -->\n(.*?)<!-- end -->", source, re.DOTALL)
    lines = [cells(line) for text in marked for line in text.splitlines() if line.startswith("|")]
    titles = lines[0] if lines else []
    rows = [line for line in lines if line[0] == row]
    if len(marked) != 1 or len(rows) != 1 or titles.count(column) != 1:
        raise ValueError(
            f"docs/benchmarks.md has no single value {table}; {row}; {column}: it has {len(marked)} such "
            f"tables, {len(rows)} such rows and {titles.count(column)} such columns"
        )
    return rows[0][titles.index(column)]


def with_values(page: str, source: str) -> str:
    """Return a page with the values of docs/benchmarks.md between its marks."""
    return INCLUDED.sub(lambda mark: f"{mark[1]}{measured(source, mark[2], mark[3], mark[4])}{mark[6]}", page)


def write_values() -> list[Path]:
    """Put the values into all pages; return the pages that were changed."""
    source = SOURCE.read_text(encoding="utf-8")
    changed = []
    for path in pages():
        old = path.read_text(encoding="utf-8")
        new = with_values(old, source)
        if new != old:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


def differences() -> list[str]:
    """Return a sentence for each value that differs from docs/benchmarks.md."""
    source = SOURCE.read_text(encoding="utf-8")
    sentences = []
    for path in pages():
        for _, table, row, column, value, _ in INCLUDED.findall(path.read_text(encoding="utf-8")):
            now = measured(source, table, row, column)
            if value != now:
                sentences.append(f"{path.relative_to(ROOT)}: {table}; {row}; {column} is {now}, not {value}")
    return sentences


def main() -> None:
    """Show or write the values."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put the values into the pages")
    if parser.parse_args().write:
        print(*write_values(), sep="\n")
        return
    found = differences()
    print(*found, sep="\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
