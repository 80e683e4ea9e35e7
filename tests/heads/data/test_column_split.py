"""A column of the table can say which rows are for training, validation and test."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.heads.data.column_split import ColumnSplit
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.split_request import SplitRequest, parse_split
from tier4k.heads.data.splits import SplitError
from tier4k.heads.protocol.options import FitOptions
from tier4k.tests.builders.data import table_rows, write_table

ROWS = 12
PARTS = ["Train"] * 6 + [" val ", "VALIDATION", "valid"] + ["test", "TEST", "Test "]


def manifest_of(folder: Path, columns: str = "", **others: Any) -> Manifest:
    names = [f"{('MJ', 'SD')[row % 2]}_{row}.png" for row in range(ROWS)]
    path = write_table(folder / "t.csv", table_rows(names, **others))
    return check(path, TableChoice(columns=columns)).manifest


def request_of(manifest: Manifest, text: str = "column:split", **options: Any) -> SplitRequest:
    return FitOptions(split=parse_split(text), **options).split_request(manifest)


def test_rows_are_in_the_part_that_the_column_says(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, split=PARTS)
    (split,) = request_of(manifest).splits(Rows.of(manifest), validation=0.15)
    parts = (split.train.tolist(), split.validation.tolist(), split.test.tolist())
    assert parts == ([0, 1, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11])
    # A head that needs no validation rows learns from them too, as with a file of splits.
    (merged,) = request_of(manifest).splits(Rows.of(manifest), validation=0.0)
    assert (merged.train.tolist(), len(merged.validation)) == (list(range(9)), 0)


def test_validation_rows_are_cut_by_prompt_where_the_column_has_none(tmp_path: Path) -> None:
    prompts = [f"prompt {row // 3}" for row in range(ROWS)]
    manifest = manifest_of(tmp_path, split=["train"] * 9 + ["test"] * 3, prompt=prompts)
    (split,) = request_of(manifest).splits(Rows.of(manifest), validation=0.3)
    assert sorted([*split.train, *split.validation]) == list(range(9))
    groups = Rows.of(manifest).group
    assert len(split.validation) == 3 and not set(groups[split.train]) & set(groups[split.validation])


def test_the_command_line_can_say_which_column_is_the_split(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, "split=subset", subset=PARTS)
    by_field, by_name = (request_of(manifest, f"column:{name}") for name in ("split", "subset"))
    rows = Rows.of(manifest)
    assert (
        by_field.splits(rows, 0.1)[0].test.tolist()
        == by_name.splits(rows, 0.1)[0].test.tolist()
        == [9, 10, 11]
    )


def test_the_name_changes_with_the_column_and_can_be_part_of_a_folder(tmp_path: Path) -> None:
    name = "my split/官方"
    one = manifest_of(tmp_path / "1", **{name: PARTS})
    two = manifest_of(tmp_path / "2", **{name: [*PARTS[1:], "test"]})
    names = [request_of(manifest, f"column:{name}").name for manifest in (one, one, two)]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("column-my_split_-") and "/" not in names[0] and names[0].isascii()


def test_only_the_rows_of_the_benchmark_are_split(tmp_path: Path) -> None:
    table = table_rows([f"MJ_{row}.png" for row in range(ROWS)], image_prompt=[""] * 6 + ["MJ_0.png"] * 6)
    split = ["train", "train", "train", "test", "test", "test"] * 2
    manifest = check(write_table(tmp_path / "t.csv", table.assign(split=split))).manifest.select("T2I")
    (found,) = request_of(manifest).splits(Rows.of(manifest), 0.0)
    assert (found.train.tolist(), found.test.tolist()) == ([0, 1, 2], [3, 4, 5])


def test_a_file_called_like_a_column_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("column:0").write_text("[]")
    assert parse_split("column:0") == ColumnSplit("0")


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "another value": (
        {"split": ["holdout"] * 2 + PARTS[2:]},
        "column:split",
        r"column 'split' of t gives 2 of 12 rows no part; it has holdout \(2 rows\), Train \(4 rows\), ",
    ),
    "an empty cell": (
        {"split": [None, *PARTS[1:]]},
        "column:split",
        r"gives 1 of 12 rows no part; it has empty \(1 rows\)",
    ),
    "numbers": (
        {"split": [0, 1] * 6},
        "column:split",
        r"gives 12 of 12 .* 0 \(6 rows\), 1 \(6 rows\): write",
    ),
    "many values": (
        {"split": [f"v{row}" for row in range(ROWS)]},
        "column:split",
        r"v7 \(1 rows\), 4 more values",
    ),
    "a misspelt column": ({"split": PARTS}, "column:splt", r"no column 'splt' .*nearest: split"),
    "no other column": ({}, "column:zzz", r"no column 'zzz' .*there are none"),
    "generators": ({}, "column:generator", r"it has MJ \(6 rows\), SD \(6 rows\): write train, val"),
    "scores": ({}, "column:mos", r"gives 12 of 12 rows no part"),
    "no name": ({"split": PARTS}, "column:", r"names no column: pass column:NAME"),
    "no test rows": (
        {"split": ["train"] * ROWS},
        "column:split",
        r"column 'split' of t has 12 training and 0 test",
    ),
}


@pytest.mark.parametrize(("columns", "text", "expected"), WRONG.values(), ids=WRONG)
def test_a_column_that_does_not_say_the_part_of_every_row_is_refused(
    tmp_path: Path, columns: dict[str, Any], text: str, expected: str
) -> None:
    manifest = manifest_of(tmp_path, **columns)
    with pytest.raises(SplitError, match=expected) as error:
        request_of(manifest, text).splits(Rows.of(manifest), 0.0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"repeats": 2}, {"folds": 3}])
def test_repeats_and_folds_are_refused_as_for_a_file(tmp_path: Path, options: dict[str, int]) -> None:
    manifest = manifest_of(tmp_path, split=PARTS)
    with pytest.raises(SplitError, match=r"already fixes 1 repeat: leave out --repeats and --folds"):
        request_of(manifest, **options).splits(Rows.of(manifest), 0.0)


def test_cells_that_hold_bytes_are_not_shown(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    columns = pd.DataFrame(
        {"picture": [{"bytes": b"secret", "path": "x.png"}] * ROWS, "raw": [b"secret"] * ROWS}
    )
    manifest = Manifest(**(vars(manifest) | {"columns": columns}))
    for name in columns:
        with pytest.raises(SplitError) as error:
            ColumnSplit(name).of(manifest)
        assert "secret" not in str(error.value) and "(12 rows)" in str(error.value)


def test_of_several_data_sets_the_one_that_lacks_the_column_is_named(tmp_path: Path) -> None:
    names = [f"{row}.png" for row in range(ROWS)]
    write_table(tmp_path / "one" / "a.csv", table_rows(names, split=PARTS))
    write_table(tmp_path / "two" / "b.csv", table_rows(names))
    manifest = check([tmp_path / "one" / "a.csv", tmp_path / "two" / "b.csv"]).manifest
    with pytest.raises(SplitError, match=r"gives 12 of 24 rows no part.*the empty cells are in b"):
        request_of(manifest)


def test_cells_of_a_workbook_are_read_alike(tmp_path: Path) -> None:
    names = [f"{row}.png" for row in range(ROWS)]
    table = table_rows(names, split=pd.Categorical(PARTS))
    manifest = check(write_table(tmp_path / "t.parquet", table)).manifest
    (split,) = request_of(manifest).splits(Rows.of(manifest), 0.1)
    np.testing.assert_array_equal(split.test, [9, 10, 11])
