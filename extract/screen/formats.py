"""Tables as texts for programs (CSV, JSON) and for documents (Markdown)."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from tier4k.extract.screen.table import Row, Table


def as_csv(table: Table) -> str:
    """Return the raw values as CSV with a line of names; NaN and None are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _names(table.rows), lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return text.getvalue()


def as_json(table: Table) -> str:
    """Return the raw values as a JSON list of objects, one a line; NaN and infinity are null."""
    lines = []
    for row in table.rows:
        lines.append(json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False))
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


def as_markdown(table: Table) -> str:
    """Return all columns as readers see them, as a table of Markdown."""
    lines = [f"**{table.title}**", ""] if table.title else []
    lines.append(_markdown_line([column.heading for column in table.columns]))
    lines.append(_markdown_line(["---:" if column.is_number else "---" for column in table.columns]))
    lines += map(_markdown_line, table.cells())
    return "\n".join(lines) + "\n"


PROGRAM_FORMATS: dict[str, Callable[[Table], str]] = {"csv": as_csv, "json": as_json}
"""Formats with raw values."""


def _names(rows: Sequence[Row]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    return list(names)


def _plain(value: Any) -> Any:
    """Return a raw value as Python's own type; None for NaN and infinity."""
    if hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, int | bool | str) else str(value)


def _markdown_line(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(escaped)} |"
