"""Columns are found by the layout, by what the user says, and by common names, which is reported."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.source import SourceTable
from tier4k.extract.datasets.table_choice import ColumnChoice, TableChoice
from tier4k.extract.images.places import read_bytes
from tier4k.tests.builders.data import save_picture, save_table, table_rows, write_agiqa, write_pku


def written(folder: Path, names: Mapping[str, str], **more: object) -> Path:
    """A table whose columns have other names, and further columns."""
    return save_table(table_rows().rename(columns=dict(names)).assign(**more), folder / "t.csv")


def report_lines(source: SourceTable) -> str:
    return "\n".join(filter(None, (source.report.recognition, *source.report.lines())))


@pytest.mark.parametrize("image", ["img", "img_path", "Image", "filename", "File_Name", "image path"])
@pytest.mark.parametrize("prompt", ["caption", "text", "Prompt", "text_prompt"])
def test_common_names_are_recognised_and_reported(tmp_path: Path, image: str, prompt: str) -> None:
    source = read_source(written(tmp_path, {"image": image, "prompt": prompt, "mos": "MOS"}))
    assert source.frame["name"].tolist() == table_rows()["image"].tolist()
    assert source.frame["prompt"].tolist() == table_rows()["prompt"].tolist()
    assert source.targets == ("MOS",)
    assert f"image = {image}, prompt = {prompt}" in report_lines(source)


def test_the_exact_name_goes_before_a_common_one_and_nothing_is_reported(tmp_path: Path) -> None:
    source = read_source(written(tmp_path, {}, caption="another text", model="one"))
    assert source.frame["prompt"].tolist() == table_rows()["prompt"].tolist()
    assert source.frame["generator"].tolist() == ["one"] * 3
    assert report_lines(source) == "Columns recognised by their names: generator = model"
    assert list(source.others.columns) == ["caption"]


def test_two_common_names_for_one_field_must_be_decided_by_the_user(tmp_path: Path) -> None:
    path = written(tmp_path, {"image": "img_path"}, filename=["x.png", "y.png", "z.png"])
    with pytest.raises(DataError, match="img_path and filename may each be the image.*image=img_path"):
        read_source(path)
    source = read_source(path, TableChoice(columns="image=filename"))
    assert source.frame["name"].tolist() == ["x.png", "y.png", "z.png"]


def test_the_user_names_every_column(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "where": ["a.png", "b.png"],
            "what": ["a fox", "a cat"],
            "who": ["SD", "MJ"],
            "scene": ["wood", "house"],
            "part": ["train", "test"],
            "like it": [1.5, 2.5],
            "fits": [3, 4],
            "other": [5, 6],
        }
    )
    columns = "image=where,prompt=what,generator=who,group=scene,split=part,mos=like it,mos.alignment=fits"
    source = read_source(save_table(frame, tmp_path / "t.csv"), TableChoice(columns=columns))
    assert source.frame["name"].tolist() == ["a.png", "b.png"]
    assert source.frame["prompt"].tolist() == ["a fox", "a cat"]
    assert source.frame["generator"].tolist() == ["SD", "MJ"]
    assert source.frame["group"].tolist() == ["wood", "house"]
    assert source.others["split"].tolist() == ["train", "test"]
    assert source.targets == ("like it", "alignment")
    assert source.frame["alignment"].astype(float).tolist() == [3, 4]
    assert source.report.targets == dict.fromkeys(source.targets, "named by --columns")


def test_a_published_layout_keeps_its_folders_when_the_user_chooses_a_score(tmp_path: Path) -> None:
    write_pku(tmp_path / "PKU-AIGIQA-4K")
    source = read_source(tmp_path, TableChoice(columns="mos=MOS_a"))
    assert source.targets == ("MOS_a",)
    assert source.image_folder.name == "All"
    assert {"MOS_q", "MOS_c"} <= {*source.others.columns}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("image=nowhere", "lacks columns of the table layout:\n  nowhere"),
        ("mos=nowhere", "  nowhere"),
        ("split=nowhere", "  nowhere"),
        ("picture=image", "there is no field 'picture': use image, prompt"),
        ("image", "'image' is not of the form FIELD=COLUMN"),
        ("image=image,image=prompt", "several columns for image, image and prompt: name only one"),
    ],
)
def test_a_wrong_choice_of_columns_is_refused(tmp_path: Path, columns: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_source(written(tmp_path, {}), TableChoice(columns=columns))
    assert message in str(error.value)


def test_a_column_name_may_contain_a_comma() -> None:
    choice = ColumnChoice.parse("mos=mean, of all,image=a,b,mos.second=c")
    assert choice.targets == {"mean, of all": ("mean, of all",), "second": ("c",)}
    assert choice.of_field == {"image": ("a,b",)}


def test_without_prompts_every_image_is_a_group_of_its_own_and_the_user_is_told(tmp_path: Path) -> None:
    frame = table_rows(["a.png", "b.png", "c.png", "d.png"]).drop(columns="prompt")
    for seed, name in enumerate(frame["image"]):
        save_picture(tmp_path / name, seed % 3)  # the last one equals the first
    path = save_table(frame, tmp_path / "t.csv")
    source = read_source(path)
    assert "images are taken as independent of each other" in report_lines(source)
    manifest = check(path).manifest
    assert not manifest.has_prompts
    group = manifest.table["group"]
    assert group[0] == group[3] and group.nunique() == 3


def test_a_misspelt_prompt_is_an_error_and_not_a_table_without_prompts(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "promt"})
    with pytest.raises(DataError, match="prompt \\(nearest: promt\\)"):
        read_source(path)
    assert read_source(path, TableChoice(columns="prompt=promt")).has_prompts
    assert not read_source(path, TableChoice(columns="prompt=")).has_prompts


def test_a_column_of_groups_replaces_the_prompts_but_equal_images_stay_together(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c.png", "d.png"]
    for seed, name in enumerate(names):
        save_picture(tmp_path / name, min(seed, 2))  # c and d have the same content
    frame = table_rows(names, prompt=["one"] * 4, scene=["x", "x", "y", "z"])
    path = save_table(frame, tmp_path / "t.csv")
    assert {*check(path).manifest.table["group"]} == {check(path).manifest.table["group"][0]}
    group = check(path, TableChoice(columns="group=scene")).manifest.table["group"]
    assert group[0] == group[1] != group[2] == group[3]
    frame.loc[0, "scene"] = " "
    problems = check(save_table(frame, path), TableChoice(columns="group=scene")).problems
    assert [(problem.line, problem.message) for problem in problems] == [(2, "the group is empty")]


def test_a_folder_with_several_tables_is_read_where_one_has_the_columns(tmp_path: Path) -> None:
    write_agiqa(tmp_path / "set")
    (tmp_path / "set" / "data.csv").rename(tmp_path / "set" / "ratings.csv")
    save_table(pd.DataFrame({"name": ["x"], "remark": ["y"]}), tmp_path / "set" / "notes.csv")
    (tmp_path / "set" / "empty.csv").write_text("")
    (tmp_path / "set" / "._ratings.csv").write_bytes(b"\0\5\x16\7")
    (tmp_path / "set" / "~$ratings.xlsx").write_bytes(b"lock")
    source = read_source(tmp_path / "set")
    assert source.path.name == "ratings.csv"
    lines = report_lines(source)
    assert "Not read: notes.csv (it lacks the column" in lines
    assert "Not read: empty.csv (it cannot be read" in lines
    assert "~$" not in lines and "._" not in lines


def test_shards_of_a_table_are_read_as_one_and_their_rows_are_named_by_file(tmp_path: Path) -> None:
    frame = table_rows([f"{row}.png" for row in range(6)])
    for row, name in enumerate(frame["image"]):
        if row not in (0, 4):
            save_picture(tmp_path / name, row)
    for number in range(3):
        part = frame.iloc[2 * number : 2 * number + 2]
        save_table(part, tmp_path / f"train-0000{number}-of-00003.parquet")
    checked = check(tmp_path)
    assert checked.manifest.table["name"].tolist() == ["1.png", "2.png", "3.png", "5.png"]
    first, second = checked.problems
    assert str(first).startswith("train-00000-of-00003.parquet, line 2, 0.png: there is no file")
    assert str(second).startswith("train-00002-of-00003.parquet, line 2, 4.png: there is no file")
    (tmp_path / "train-00001-of-00003.parquet").unlink()
    assert "Not read: 1 of 3 files of the table train" in report_lines(read_source(tmp_path))
    save_table(frame, tmp_path / "train-00000-of-00001.parquet")  # of an older download
    with pytest.raises(DataError, match="contains 2 tables"):
        read_source(tmp_path)


def write_shards(folder: Path, table: str, count: int) -> None:
    """Shards of two rows, each with its own images of the names 0.png and 1.png."""
    for number in range(count):
        images = [{"bytes": f"{table} {number} {row}".encode(), "path": f"{row}.png"} for row in range(2)]
        frame = pd.DataFrame({"image": images, "prompt": ["a", "b"], "mos": [1.0, 2.0]})
        frame.to_parquet(folder / f"{table}-{number:05}-of-{count:05}.parquet")


def test_the_path_of_any_shard_is_that_of_its_whole_table(tmp_path: Path) -> None:
    write_shards(tmp_path, "train", 2)
    write_shards(tmp_path, "test", 1)
    for number in range(2):
        source = read_source(tmp_path / f"train-{number:05}-of-00002.parquet")
        assert source.frame["file"].tolist() == sorted(
            2 * [f"train-{n:05}-of-00002.parquet" for n in range(2)]
        )
        assert "missing or damaged" not in report_lines(source)
    assert len(read_source(tmp_path / "test-00000-of-00001.parquet").frame) == 2


def test_a_folder_without_tables_names_its_folder_that_has_some(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_shards(tmp_path / "data", "train", 1)
    with pytest.raises(DataError, match=f"pass {tmp_path / 'data'}"):
        read_source(tmp_path)


def test_equal_names_in_different_shards_are_different_images(tmp_path: Path) -> None:
    write_shards(tmp_path, "train", 2)
    frame = read_source(tmp_path).frame
    assert frame["name"].is_unique
    assert frame["name"].iloc[2] == "train-00001-of-00002 row 0"
    assert [read_bytes(place) for place in frame["image"]] == [
        b"train 0 0",
        b"train 0 1",
        b"train 1 0",
        b"train 1 1",
    ]


def test_a_table_beside_that_of_a_published_layout_is_reported(tmp_path: Path) -> None:
    write_agiqa(tmp_path)
    save_table(table_rows(), tmp_path / "more.csv")
    source = read_source(tmp_path)
    assert source.path.name == "data.csv"
    assert report_lines(source) == "Not read: more.csv (the table of this folder is data.csv)"


def test_a_folder_whose_tables_all_lack_columns_lists_each_of_them(tmp_path: Path) -> None:
    save_table(pd.DataFrame({"a": [1]}), tmp_path / "one.csv")
    save_table(pd.DataFrame({"b": [1]}), tmp_path / "two.parquet")
    (tmp_path / "three.xlsx").write_bytes(b"no workbook")
    with pytest.raises(DataError) as error:
        read_source(tmp_path)
    message = str(error.value)
    assert all(f"  {name} (it " in message for name in ("one.csv", "two.parquet", "three.xlsx"))
    assert "--columns" in message


@pytest.mark.parametrize(
    "columns", ["image=file,prompt=caption", "image=file,prompt=caption,image_prompt=start"]
)
def test_a_table_whose_columns_the_user_names_has_no_published_layout(tmp_path: Path, columns: str) -> None:
    names = {"image": "file", "prompt": "caption", "mos": "look"}
    path = written(
        tmp_path, names, start=["a.png", "b.png", "c.png"], fit=[1.0, 2, 3], sd_look=[0.1, 0.2, 0.3]
    )
    source = read_source(path, TableChoice(columns=f"{columns},mos.quality=look"))
    assert (source.name, source.image_folder) == ("t", tmp_path)
    assert list(source.report.unused) == ["fit", "sd_look"]
    assert source.report.without_meaning == (() if "start" in columns else ("start",))
    as_split = read_source(path, TableChoice(columns="image=file,prompt=caption,mos=look,split=start"))
    assert as_split.report.without_meaning == ()
    named_as_target = read_source(path, TableChoice(columns=f"{columns},mos=look"))
    assert list(named_as_target.report.unused) == ["fit"]  # the ratings of look are used
