"""Scores as small tables: .csv, .jsonl and .json files, and what the terminal lists."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.problems import LeftOut
from tier4k.heads.inference.keyed_rows import KeyedRows
from tier4k.heads.inference.score_rows import ScoredRows
from tier4k.heads.inference.scores import Scores, ScoreSummary

SHOWN_FAILED = 10


class ScoreTable:
    """Collects rows with scores, and the rows without.

    Args:
        summary: How predictions become scores.
        most: Largest number of rows with scores to keep; None keeps all, and all rows without.

    Attributes:
        scored: Number of rows with scores.
        left_out: Rows without scores, of which at most `most` are kept.
        left_out_count: Their number.
        failed: The first rows among them that had no problem before they were scored.
        failed_count: Number of these rows.
    """

    def __init__(self, summary: ScoreSummary, most: int | None = None) -> None:
        self._summary = summary
        self._most = most
        self._tables: list[pd.DataFrame] = []
        self.scored = 0
        self.left_out: list[LeftOut] = []
        self.left_out_count = 0
        self.failed: list[LeftOut] = []
        self.failed_count = 0

    def add(self, scored: ScoredRows) -> None:
        """Receive the next rows."""
        rows, reasons = scored.rows, scored.reasons
        exists = scored.scores.exists
        numbers = np.flatnonzero(exists)[: self._free(self.scored)]
        if len(numbers):
            self._tables.append(self._summary.table(rows.take(numbers).names, scored.scores.take(numbers)))
        for row in sorted(reasons)[: self._free(self.left_out_count)]:
            self.left_out.append(_left_out(rows, row, reasons[row]))
        failed = sorted(reasons.keys() - rows.reasons.keys())
        for row in failed[: max(SHOWN_FAILED - self.failed_count, 0)]:
            self.failed.append(_left_out(rows, row, reasons[row]))
        self.scored += int(exists.sum())
        self.left_out_count += len(reasons)
        self.failed_count += len(failed)

    def _free(self, kept: int) -> int | None:
        return None if self._most is None else max(self._most - kept, 0)

    @property
    def table(self) -> pd.DataFrame:
        """The kept rows with scores, one line for each row and target (see `ScoreSummary.table`)."""
        nothing = self._summary.table([], Scores.none(0, len(self._summary.targets)))
        return pd.concat(self._tables or [nothing], ignore_index=True)


def _left_out(rows: KeyedRows, row: int, reason: str) -> LeftOut:
    name = rows.rows.column("name")[row].as_py()
    return LeftOut(name or f"line {rows.rows.column('line')[row].as_py()}", reason)


def with_left_out(
    table: pd.DataFrame,
    targets: Sequence[str],
    left_out: Sequence[LeftOut],
) -> pd.DataFrame:
    """Return scores with a line for each target of each image that was left out: NaN, and the `reason`.

    Args:
        table: Scores as returned by `ScoreSummary.table`.
        targets: Names of the targets.
        left_out: Images without scores; the table stays as it is if there are none.
    """
    if not left_out:
        return table
    lines = []
    for image in left_out:
        for target in targets:
            lines.append({"name": image.name, "target": target, "reason": image.reason})
    scored = table.assign(reason=None)
    return pd.concat([scored, pd.DataFrame(lines).reindex(columns=scored.columns)], ignore_index=True)


def write_table(table: pd.DataFrame, output: Path) -> None:
    """Write scores as .csv, .jsonl (one object a line) or .json (a list of objects); NaN is empty or null.

    Args:
        table: Scores as returned by `ScoreSummary.table`.
        output: File to write.

    Raises:
        StoreError: The file cannot be written.
    """
    write = WRITERS[output.suffix]
    with explain_write_errors(output):
        publish(output, lambda path: write(table, path))


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)


def _write_json(table: pd.DataFrame, path: Path) -> None:
    text = json.dumps(_records(table), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_json_lines(table: pd.DataFrame, path: Path) -> None:
    lines = [json.dumps(record, ensure_ascii=False) for record in _records(table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".json": _write_json,
}
