"""Files of scores for millions of rows: one line a row, and a rerun adds what is missing."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tier4k.cache.errors import TierError
from tier4k.heads.inference import known_scores, score_files
from tier4k.heads.inference.keyed_rows import KeyedRows
from tier4k.heads.inference.known_scores import ScoreFileError
from tier4k.heads.inference.score_files import WrittenScores, require_addable
from tier4k.heads.inference.scores import ScoreSummary
from tier4k.heads.inference.scoring_model import ScoringModel
from tier4k.tests.builders.formula_scores import (
    BROKEN,
    HEADS,
    SUMMARY,
    FormulaScorer,
    prediction,
    rows_of,
    write_formula_scores,
)
from tier4k.tests.builders.stores import number_keys, start_program


def assert_rows(output: Path, numbers: Sequence[int], content: int = 0) -> None:
    """Compare every column of a file with the formula."""
    table = pd.read_parquet(output)
    assert table["name"].tolist() == [f"{number}.png" for number in numbers]
    assert table["line"].tolist() == [number + 2 for number in numbers]
    for line, number in zip(table.to_dict("records"), numbers, strict=True):
        if number == BROKEN:
            assert line["reason"] == "no image"
            assert np.isnan(line["MOS_q_score"]) and np.isnan(line["MOS_a_high"])
            continue
        (key,) = number_keys([number + 1000 * content])
        first, second, other = (prediction(key, head) for head in range(3))
        assert pd.isna(line["reason"])
        assert line["MOS_q_score"] == pytest.approx((first + second) / 2, rel=1e-6)
        assert line["MOS_q_low"] == pytest.approx((first + second) / 2 - 1, rel=1e-6)
        assert line["MOS_q_high"] == pytest.approx((first + second) / 2 + 1, rel=1e-6)
        assert line["MOS_q_spread"] == pytest.approx(abs(first - second) / 2**0.5, rel=1e-6)
        assert line["MOS_a_score"] == pytest.approx(other, rel=1e-6)
        assert all(np.isnan(line[f"MOS_a_{value}"]) for value in ("low", "high", "spread"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "scores.parquet"


def test_a_file_has_one_line_for_each_row_and_names_its_model(output: Path) -> None:
    write_formula_scores(output, rows_of(range(30)), FormulaScorer())
    assert_rows(output, range(30))
    found = {key.decode(): text.decode() for key, text in pq.read_schema(output).metadata.items()}
    assert found["tier4k.model"] == "run-1"
    assert found["tier4k.digest"] == "ab" * 32
    assert found["tier4k.version"]
    assert json.loads(found["tier4k.targets"]) == ["MOS_q", "MOS_a"]
    assert json.loads(found["tier4k.repeats"]) == {"MOS_q": [0, 1], "MOS_a": [0]}
    interval = {"kind": "conformal", "level": 0.9, "half_width": {"MOS_q": 1.0, "MOS_a": None}}
    assert json.loads(found["tier4k.interval"]) == interval
    assert [path.name for path in output.parent.iterdir()] == ["scores.parquet"]


def test_a_rerun_scores_only_new_rows_and_those_that_could_not_be_scored(output: Path) -> None:
    write_formula_scores(output, rows_of(range(20)), FormulaScorer())
    scorer = FormulaScorer()
    grown = [*range(5), 50, *range(5, 25)]
    assert write_formula_scores(output, rows_of(grown), scorer) == WrittenScores(known=19, kept=0)
    assert scorer.scored == ["50.png", f"{BROKEN}.png", *(f"{number}.png" for number in range(20, 25))]
    assert_rows(output, grown)


def test_a_rerun_writes_the_file_that_one_run_writes(output: Path, tmp_path: Path) -> None:
    write_formula_scores(output, rows_of(range(12)), FormulaScorer())
    write_formula_scores(output, rows_of(range(40)), FormulaScorer())
    write_formula_scores(tmp_path / "at once.parquet", rows_of(range(40)), FormulaScorer())
    assert pq.read_table(output).equals(pq.read_table(tmp_path / "at once.parquet"), check_metadata=True)


def test_a_row_whose_image_changed_is_scored_again(output: Path) -> None:
    write_formula_scores(output, rows_of(range(10)), FormulaScorer())
    scorer = FormulaScorer()
    write_formula_scores(output, rows_of(range(10), content=1), scorer)
    assert len(scorer.scored) == 10
    assert_rows(output, range(10), content=1)


def test_rows_of_other_data_stay_and_their_scores_are_used(output: Path) -> None:
    write_formula_scores(output, rows_of(range(10), "/data/a.csv"), FormulaScorer())
    scorer = FormulaScorer()
    assert write_formula_scores(output, rows_of(range(5, 15), "/data/b.csv"), scorer) == WrittenScores(
        known=5, kept=10
    )
    assert scorer.scored == [f"{number}.png" for number in range(10, 15)]
    assert_rows(output, [*range(5, 15), *range(10)])
    assert pd.read_parquet(output)["file"].tolist() == ["/data/b.csv"] * 10 + ["/data/a.csv"] * 10


def test_rows_of_equal_content_are_scored_once_in_a_batch(output: Path) -> None:
    scorer = FormulaScorer()
    write_formula_scores(output, rows_of([3, 4, 3, 3, BROKEN, BROKEN]), scorer)
    assert scorer.scored == ["3.png", "4.png", f"{BROKEN}.png"]
    assert_rows(output, [3, 4, 3, 3, BROKEN, BROKEN])


@pytest.mark.parametrize("has_earlier_file", [False, True])
def test_a_run_that_fails_keeps_its_scores_for_the_next(output: Path, has_earlier_file: bool) -> None:
    if has_earlier_file:
        write_formula_scores(output, rows_of(range(8)), FormulaScorer())
    before = output.read_bytes() if has_earlier_file else None
    with pytest.raises(TierError, match="the power failed"):
        write_formula_scores(output, rows_of(range(60)), FormulaScorer(most=30))
    assert (output.read_bytes() if output.exists() else None) == before
    scorer = FormulaScorer()
    write_formula_scores(output, rows_of(range(60)), scorer)
    assert len(scorer.scored) <= 60 - 26  # parts of 4 rows; the image that cannot be read is tried again
    assert_rows(output, range(60))
    assert [path.name for path in output.parent.iterdir()] == ["scores.parquet"]


KILLED = """
import os, sys
from pathlib import Path
from tier4k.heads.inference import known_scores, score_files
from tier4k.tests.builders.formula_scores import FormulaScorer, rows_of, write_formula_scores
known_scores.PART_SECONDS = 0
class Killed(FormulaScorer):
    def predict(self, rows):
        if len(self.scored) >= 30:
            os.kill(os.getpid(), 9)
        return super().predict(rows)
print("ready", flush=True)
write_formula_scores(Path(sys.argv[1]), rows_of(range(60)), Killed())
"""


@pytest.mark.slow
def test_a_killed_run_loses_only_what_was_not_published(output: Path) -> None:
    process = start_program(KILLED, output)
    process.communicate()
    assert process.returncode == -9
    assert not output.exists()
    scorer = FormulaScorer()
    write_formula_scores(output, rows_of(range(60)), scorer)
    assert len(scorer.scored) <= 60 - 28
    assert_rows(output, range(60))
    assert [path.name for path in output.parent.iterdir()] == ["scores.parquet"]


OTHERS = {
    "digest": (ScoringModel("run-2", "cd" * 32, SUMMARY), "another model, run-1, and not of run-2"),
    "repeats": (ScoringModel("run-1", "ab" * 32, ScoreSummary(HEADS[1:], {})), 'repeats {"MOS_q": [0, 1]'),
    "targets": (ScoringModel("run-1", "ab" * 32, ScoreSummary(HEADS[:2], {})), 'targets ["MOS_q", "MOS_a"]'),
}


@pytest.mark.parametrize("case", OTHERS)
def test_the_file_of_another_model_is_refused_with_the_difference_and_stays(output: Path, case: str) -> None:
    other, expected = OTHERS[case]
    write_formula_scores(output, rows_of(range(5)), FormulaScorer())
    before = output.read_bytes()
    scorer = FormulaScorer()
    for refused in (
        lambda: require_addable(output, other),
        lambda: write_formula_scores(output, rows_of([1]), scorer, other),
    ):
        with pytest.raises(ScoreFileError) as error:
            refused()
        assert expected in str(error.value)
        assert "pass another -o" in str(error.value)
    assert not scorer.scored
    assert output.read_bytes() == before


def test_the_scores_of_a_failed_run_of_another_model_are_refused_too(output: Path) -> None:
    with pytest.raises(TierError, match="the power failed"):
        write_formula_scores(output, rows_of(range(60)), FormulaScorer(most=30))
    with pytest.raises(ScoreFileError, match="another model, run-1"):
        require_addable(output, OTHERS["digest"][0])


@pytest.mark.parametrize("column", ["line", "file", "key", "MOS_q_score"])
def test_a_file_with_a_column_of_another_type_is_refused_before_work(output: Path, column: str) -> None:
    write_formula_scores(output, rows_of(range(30)), FormulaScorer())
    table = pq.read_table(output)
    other = pa.nulls(table.num_rows)
    pq.write_table(table.set_column(table.column_names.index(column), column, other), output)
    before = output.read_bytes()
    with pytest.raises(ScoreFileError, match=f"has null in the column {column}, and not"):
        write_formula_scores(output, rows_of(range(40)), FormulaScorer())
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("write_other", "expected"),
    [
        (lambda path: pd.DataFrame({"name": ["a"]}).to_parquet(path), "has no scores of tier4k"),
        (lambda path: path.write_bytes(b"no table"), "cannot be read as scores"),
        (lambda path: path.mkdir(), "cannot be read as scores"),
    ],
)
def test_other_files_are_not_overwritten(output: Path, write_other: object, expected: str) -> None:
    write_other(output)
    with pytest.raises(ScoreFileError, match=expected):
        write_formula_scores(output, rows_of([1]), FormulaScorer())
    assert output.exists()


def test_memory_does_not_grow_with_the_number_of_rows(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (known_scores, score_files):
        monkeypatch.setattr(module, "ROW_GROUP", 64)
    held: list[int] = []

    def watched(batches: Iterator[KeyedRows]) -> Iterator[KeyedRows]:
        for rows in batches:
            held.append(pa.total_allocated_bytes())
            yield rows

    write_formula_scores(output, watched(rows_of(range(640), batch=32)), FormulaScorer())
    assert max(held[10:]) <= max(held[:10])
    with pq.ParquetFile(output) as file:
        groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [64] * 10
