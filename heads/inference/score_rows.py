"""Score rows batch by batch: memory does not depend on their number."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tier4k.extract.datasets.choices import Stream
from tier4k.extract.datasets.progress import Progress
from tier4k.heads.inference.keyed_rows import KeyedRows
from tier4k.heads.inference.scores import Scores, ScoreSummary
from tier4k.heads.results.model import HeadKey


@dataclass(frozen=True)
class Predicted:
    """Predictions for N rows.

    Attributes:
        values: Predictions (N,) of each head, NaN for a row with a reason.
        reasons: Rows that cannot be scored, with the reason.
    """

    values: Mapping[HeadKey, np.ndarray]
    reasons: Mapping[int, str]


class RowScorer(Protocol):
    """Scores rows.

    Attributes:
        summary: The heads, and how their predictions become scores.
        inputs: The inputs of a row that its scores depend on.
        rows_at_once: Largest number of rows to predict at once, so that their features fit into memory.
    """

    summary: ScoreSummary
    inputs: tuple[Stream, ...]
    rows_at_once: int

    def predict(self, rows: KeyedRows) -> Predicted:
        """Return the predictions of all heads for rows without problems.

        Raises:
            TierError: The rows cannot be scored at all.
        """


class ScoreMemory(Protocol):
    """Scores of earlier runs, by the content of rows (see `KeyedRows.content`)."""

    def find(self, content: np.ndarray) -> Scores:
        """Return the known scores of N contents, NaN where there is none."""

    def remember(self, content: np.ndarray, scores: Scores) -> None:
        """Keep new scores of contents for a later run, in case this one does not end."""


@dataclass(frozen=True)
class ScoredRows:
    """B rows with their scores.

    Attributes:
        rows: The rows.
        content: (B,) their contents.
        scores: Their scores, NaN for rows without.
        reasons: Why rows have no score.
    """

    rows: KeyedRows
    content: np.ndarray
    scores: Scores
    reasons: Mapping[int, str]


class RowReceiver(Protocol):
    """Receives rows with their scores."""

    def add(self, scored: ScoredRows) -> None:
        """Receive the next rows."""


def score_rows(
    batches: Iterable[KeyedRows],
    scorer: RowScorer,
    receivers: Sequence[RowReceiver],
    memory: ScoreMemory | None = None,
    progress: Progress | None = None,
    total: int = 0,
) -> None:
    """Score rows and hand them to receivers.

    Rows of equal content in a batch are scored once, and rows whose scores are known not again.

    Args:
        batches: Rows in their order.
        scorer: Scores them.
        receivers: Receive every batch.
        memory: Scores that are known.
        progress: Called with (rows done, rows in all).
        total: Number of rows, for the progress.

    Raises:
        TierError: Rows cannot be scored at all, or scores cannot be written.
    """
    done = 0

    def scored(row: int) -> None:
        """Report the rows of this batch up to a row as done."""
        if progress:
            progress(done + row, total)

    for rows in batches:
        content = rows.content(scorer.inputs)
        scores = memory.find(content) if memory else Scores.none(len(rows), len(scorer.summary.targets))
        reasons = _score(rows, content, scores, scorer, memory, scored)
        for receiver in receivers:
            receiver.add(ScoredRows(rows, content, scores, reasons))
        done += len(rows)
        scored(0)


def _score(
    rows: KeyedRows,
    content: np.ndarray,
    scores: Scores,
    scorer: RowScorer,
    memory: ScoreMemory | None,
    scored: Callable[[int], None],
) -> dict[int, str]:
    """Fill in the missing scores of rows; return why rows still have none."""
    reasons = dict(rows.reasons)
    is_open = ~scores.exists
    is_open[list(reasons)] = False
    first = _first_of_equal(content, is_open)
    distinct = np.flatnonzero(first == np.arange(len(rows)))
    for start in range(0, len(distinct), scorer.rows_at_once):
        part = distinct[start : start + scorer.rows_at_once]
        predicted = scorer.predict(rows.take(part))
        found = scorer.summary.scores(predicted.values)
        scores.put(part, found)
        reasons |= {int(part[number]): reason for number, reason in predicted.reasons.items()}
        if memory:
            memory.remember(content[part[found.exists]], found.take(found.exists))
        scored(int(part[-1]))
    scores.put(is_open, scores.take(first[is_open]))
    repeated = np.flatnonzero(is_open & ~scores.exists).tolist()
    return reasons | {row: reasons[first[row]] for row in repeated}


def _first_of_equal(content: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return for each chosen row the first chosen row of equal content, and -1 for the others (B,)."""
    first_row = np.full(len(content), -1)
    rows = np.flatnonzero(chosen)
    _, first, number = np.unique(content[rows], return_index=True, return_inverse=True)
    first_row[rows] = rows[first[number]]
    return first_row
