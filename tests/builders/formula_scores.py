"""Rows to score whose keys follow from numbers, and what scores them by a formula of the keys."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.rows.batch import Row, batch_of_rows
from tier4k.heads.data.features import RowKeys
from tier4k.heads.inference.keyed_rows import KeyedRows
from tier4k.heads.inference.score_files import WrittenScores, write_score_file
from tier4k.heads.inference.score_rows import Predicted, score_rows
from tier4k.heads.inference.scores import ScoreSummary
from tier4k.heads.inference.scoring_model import ScoringModel
from tier4k.tests.builders.stores import number_keys

HEADS = (("MOS_q", 0), ("MOS_q", 1), ("MOS_a", 0))
SUMMARY = ScoreSummary(HEADS, {("MOS_q", 0): 0.5, ("MOS_q", 1): 1.5})
MODEL = ScoringModel("run-1", "ab" * 32, SUMMARY)
BROKEN = 13  # number of the image that cannot be read


def rows_of(
    numbers: Sequence[int], file: str = "/data/t.csv", batch: int = 10, content: int = 0
) -> Iterator[KeyedRows]:
    """Rows with these numbers as names; their inputs are other ones for another `content`."""
    for start in range(0, len(numbers), batch):
        own = list(numbers[start : start + batch])
        rows = batch_of_rows(Row(f"{number}.png", file=file, line=number + 2) for number in own).rows
        keys = RowKeys.none(len(own))
        keys.image[:] = number_keys([number + 1000 * content for number in own])
        keys.prompt[:] = number_keys([number // 4 for number in own])
        yield KeyedRows(rows, keys)


def prediction(image_key: np.ndarray, head: int) -> float:
    """The prediction of one head for a row, by a formula."""
    return 1 + image_key[:4].astype(float).sum() / 255 + head / 8


class FormulaScorer:
    """Scores rows by the formula, counts them, and fails after a number of rows."""

    summary = SUMMARY
    inputs = ("image", "text")
    rows_at_once = 4

    def __init__(self, most: int = 10**9) -> None:
        self.scored: list[str] = []
        self._most = most

    def predict(self, rows: KeyedRows) -> Predicted:
        """Return the formula's values; the image BROKEN has none."""
        if len(self.scored) + len(rows) > self._most:
            raise TierError("the power failed")
        self.scored += rows.names
        reasons = {row: "no image" for row, name in enumerate(rows.names) if name == f"{BROKEN}.png"}
        values = {}
        for number, head in enumerate(HEADS):
            predicted = np.array([prediction(key, number) for key in rows.keys.image])
            predicted[list(reasons)] = np.nan
            values[head] = predicted
        return Predicted(values, reasons)


def write_formula_scores(
    output: Path, rows: Iterator[KeyedRows], scorer: FormulaScorer, model: ScoringModel = MODEL
) -> WrittenScores:
    """Score rows into a file."""
    return write_score_file(
        output, model, lambda memory, receivers: score_rows(rows, scorer, receivers, memory)
    )
