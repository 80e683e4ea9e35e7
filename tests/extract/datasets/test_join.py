"""Several data sets are joined: names stay distinct, equal prompts stay together, nothing is lost."""

from pathlib import Path

import numpy as np
import pytest

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.tests.builders.data import (
    save_picture,
    save_table,
    table_rows,
    write_agiqa,
    write_pku,
    write_table,
)


def test_rows_of_two_sets_have_the_names_of_their_sets_and_all_targets(tmp_path: Path) -> None:
    write_pku(tmp_path / "pku")
    write_agiqa(tmp_path / "agiqa")
    checked = check([tmp_path / "pku", tmp_path / "agiqa"])
    manifest = checked.manifest
    assert (manifest.name, manifest.datasets) == ("pku+agiqa", ("pku", "agiqa"))
    assert manifest.targets == ("MOS_q", "MOS_a", "MOS_c", "mos_quality", "mos_align")
    table = manifest.table
    assert table["dataset"].tolist() == ["pku"] * 8 + ["agiqa"] * 4
    assert table["name"].str.partition("/")[0].tolist() == table["dataset"].tolist()
    assert np.isnan(table.loc[8:, "MOS_q"]).all() and np.isnan(table.loc[:7, "mos_align"]).all()
    alone = [check(tmp_path / name).manifest.table for name in ("pku", "agiqa")]
    assert table["image_key"].tolist() == [*alone[0]["image_key"], *alone[1]["image_key"]]
    assert table["row"].tolist() == list(range(12))


def test_equal_prompts_and_images_of_two_sets_are_one_group(tmp_path: Path) -> None:
    one = write_table(tmp_path / "one" / "a.csv", table_rows(prompt=["x", "y", "z"]))
    two = write_table(
        tmp_path / "two" / "b.csv", table_rows(["s.png", "t.png", "u.png"], prompt=["X!", "v", "w"])
    )
    (two.parent / "t.png").write_bytes((one.parent / "MJ_1.png").read_bytes())
    save_picture(two.parent / "u.png", 9)
    (two.parent / "s.png").write_bytes((two.parent / "u.png").read_bytes())
    group = check([one, two]).manifest.table["group"]
    assert group[0] == group[3] == group[5]  # the prompt, then the image
    assert group[1] == group[4]
    assert group.nunique() == 3


def test_scores_of_other_names_become_one_target(tmp_path: Path) -> None:
    one = write_table(tmp_path / "a.csv", table_rows().rename(columns={"mos": "quality"}))
    two = write_table(tmp_path / "b.csv", table_rows().rename(columns={"mos": "MOS_q"}))
    choice = TableChoice(columns="mos.q=quality,mos.q=MOS_q")
    manifest = check([one, two], choice).manifest
    assert manifest.targets == ("q",)
    assert manifest.table["q"].tolist() == [0.5, 1.5, 2.5] * 2


def test_problems_name_the_table_of_their_rows(tmp_path: Path) -> None:
    one = write_table(tmp_path / "one" / "a.csv")
    two = save_table(table_rows(), tmp_path / "two" / "b.csv")
    checked = check([one, two])
    assert (checked.rows, checked.skipped) == (6, 3)
    assert [str(problem).partition(": ")[0] for problem in checked.problems] == [
        f"{two}, line {line}, b/{name}" for line, name in zip((2, 3, 4), table_rows()["image"], strict=True)
    ]
    assert "3 problems in 3 of 6 rows" in checked.describe_problems()


def test_sets_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [write_table(tmp_path / folder / "t.csv") for folder in ("one", "two")]
    assert check(paths).manifest.datasets == ("one-t", "two-t")
    other = write_table(tmp_path / "other" / "one" / "t.csv")
    with pytest.raises(DataError, match="several data sets are called 'one-t'"):
        check([paths[0], other])


def test_a_data_set_that_is_passed_twice_is_refused_by_its_path(tmp_path: Path) -> None:
    path = write_table(tmp_path / "one" / "t.csv")
    (tmp_path / "link").symlink_to("one")
    with pytest.raises(DataError, match=r"t\.csv is passed 2 times as a data set: pass it once"):
        check([path, tmp_path / "link" / "t.csv"])


def test_a_column_says_which_data_set_a_row_is_of(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", table_rows(dataset=["A", "B", ""]))
    manifest = check(path).manifest
    assert manifest.datasets == ("A", "B", "t")
    assert manifest.table["name"].tolist() == table_rows()["image"].tolist()


def test_the_digest_of_one_set_does_not_depend_on_its_name_but_several_sets_do(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", table_rows(dataset=["A"] * 3))
    plain = write_table(tmp_path / "u.csv")
    assert check(path).manifest.digest == check(plain).manifest.digest
    two = write_table(tmp_path / "v.csv", table_rows(dataset=["A", "A", "B"]))
    assert check(two).manifest.digest != check(plain).manifest.digest


def test_groups_of_one_set_only_are_refused(tmp_path: Path) -> None:
    one = write_table(tmp_path / "a.csv", table_rows(group=[1, 2, 3]))
    two = write_table(tmp_path / "b.csv")
    with pytest.raises(DataError, match="b.csv has no column of groups"):
        check([one, two])
    assert len(check([one, two], TableChoice(columns="group=")).manifest) == 6
