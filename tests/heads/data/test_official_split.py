"""The official split of a published data set is that of a column."""

import json
from pathlib import Path

import pytest

from tier4k.tests.builders.commands import succeed
from tier4k.tests.builders.layouts import write_aigiqa20k


@pytest.mark.parametrize("rows", [{"train": 9, "val": 3, "test": 6}, {"train": 12, "test": 6}])
def test_the_official_split_of_aigiqa20k_has_the_rows_of_its_tables(
    tmp_path: Path, rows: dict[str, int]
) -> None:
    truth = write_aigiqa20k(tmp_path / "data", rows)
    file = tmp_path / "splits.json"
    succeed("split", str(tmp_path / "data"), "-o", str(file), "--split", "column:split")
    (repeat,) = json.loads(file.read_text())
    names = {part: truth.loc[truth["split"] == part, "name"].tolist() for part in ("train", "val", "test")}
    assert repeat["test"] == names["test"]
    assert sorted(repeat["train"] + repeat["validation"]) == sorted(names["train"] + names["val"])
    if names["val"]:
        assert repeat["validation"] == names["val"]
    else:
        assert 0 < len(repeat["validation"]) < len(names["train"])  # cut from the training rows
