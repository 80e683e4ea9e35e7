"""The layouts of users' tables are recognised, and a fault of a table as a whole has its remedy."""

import zipfile
from pathlib import Path

import pandas as pd
import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.published import LAYOUTS
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.tests.builders.data import save_table, table_rows, write_agiqa, write_pku, write_table

SUFFIXES = (".csv", ".xlsx", ".parquet")


def test_pku_is_recognised_from_its_folder_its_parent_and_its_table(tmp_path: Path) -> None:
    root = tmp_path / "PKU-AIGIQA-4K"
    annotation = write_pku(root)
    for data in (tmp_path, root, root / "annotation.xlsx"):
        source = read_source(data)
        assert source.name == "PKU-AIGIQA-4K"
        assert (source.image_folder, source.image_prompt_folder) == (
            root / "All",
            root / "I2I" / "Image_prompt",
        )
        assert source.frame["name"].tolist() == annotation["Generated_image"].tolist()
        assert source.frame["prompt"].tolist() == annotation["Text_prompt"].tolist()
        assert source.frame["image_prompt"].tolist() == ["0.png", "0.png", "1.png", "1.png", "", "", "", ""]
        assert source.frame["generator"].tolist() == ["MJ", "DALLE"] * 4
        assert source.targets == ("MOS_q", "MOS_a", "MOS_c")
        pd.testing.assert_frame_equal(
            source.frame[[*source.targets]].astype(float), annotation[[*source.targets]]
        )


@pytest.mark.parametrize("pictures", [".", "images"])
def test_agiqa_is_recognised_with_its_images_beside_the_table_or_one_folder_below(
    tmp_path: Path, pictures: str
) -> None:
    write_agiqa(tmp_path, pictures=pictures)
    (tmp_path / "other").mkdir()
    source = read_source(tmp_path)
    assert source.targets == ("mos_quality", "mos_align")
    assert source.image_folder.resolve() == (tmp_path / pictures).resolve()
    assert source.frame["generator"].tolist() == ["AttnGAN", "sd1.5"] * 2
    assert set(source.frame["image_prompt"]) == {""}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_generic_table_has_every_numeric_column_without_another_meaning_as_target(
    tmp_path: Path, suffix: str
) -> None:
    frame = table_rows(remark=["good", "bad", "5"], second=["1", "x", "3"], row=[0, 1, 2], group=[7, 7, 8])
    source = read_source(write_table(tmp_path / f"mine{suffix}", frame))
    assert source.name == "mine"
    # A bad cell is reported as such; the column is a target all the same.
    assert source.targets == ("mos", "second")
    assert source.image_folder == tmp_path
    assert read_source(tmp_path).path == tmp_path / f"mine{suffix}"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_column_with_scores_of_a_few_rows_is_a_target_and_one_with_a_few_words_is_not(
    tmp_path: Path, suffix: str
) -> None:
    names = [f"{row}.png" for row in range(8)]
    few = [None] * 6 + ["1.5", "2"]
    words = [None] * 6 + ["good", "2"]
    frame = table_rows(names, few=few, words=words, nothing=[None] * 8)
    assert read_source(write_table(tmp_path / f"mine{suffix}", frame)).targets == ("mos", "few")


def test_a_saved_row_index_is_no_target(tmp_path: Path) -> None:
    table_rows().to_csv(tmp_path / "mine.csv")
    assert read_source(tmp_path).targets == ("mos",)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_and_prompts_that_look_like_numbers_or_nothing_stay_text(tmp_path: Path, suffix: str) -> None:
    names, prompts = ["007", "1e5", "NULL"], ["None", "NA", "nan"]
    frame = read_source(save_table(table_rows(names, prompt=prompts), tmp_path / f"t{suffix}")).frame
    assert (frame["name"].tolist(), frame["prompt"].tolist()) == (names, prompts)


def test_whole_numbers_in_a_workbook_are_names_without_a_decimal_point(tmp_path: Path) -> None:
    source = read_source(save_table(table_rows().assign(image=[7, 8, 9]), tmp_path / "t.xlsx"))
    assert source.frame["name"].tolist() == ["7", "8", "9"]


def test_the_generator_is_a_column_or_else_begins_the_name(tmp_path: Path) -> None:
    names = ["DALLE_1000_00.jpg", "below/AttnGAN_normal_012.jpg", "picture.jpg"]
    read = read_source(save_table(table_rows(names), tmp_path / "a.csv")).frame
    assert read["generator"].tolist() == ["DALLE", "AttnGAN", "unknown"]
    read = read_source(save_table(table_rows(names, generator=["x", "y", "007"]), tmp_path / "b.csv")).frame
    assert read["generator"].tolist() == ["x", "y", "007"]


def test_an_image_prompt_column_is_optional_in_a_generic_table(tmp_path: Path) -> None:
    read = read_source(save_table(table_rows(image_prompt=["p.png", "", None]), tmp_path / "t.csv"))
    assert read.frame["image_prompt"].tolist() == ["p.png", "", ""]
    assert read.image_prompt_folder == tmp_path


def test_a_byte_order_mark_and_quoted_line_breaks_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(
        '\ufeffimage,prompt,mos\na.png,"two\nlines, with a comma",1.5\n'.encode()
    )
    assert read_source(tmp_path).frame["prompt"].tolist() == ["two\nlines, with a comma"]


def test_a_layout_that_is_named_overrides_the_recognised_one(tmp_path: Path) -> None:
    path = save_table(write_agiqa(tmp_path).assign(image="x.png", mos=1.0), tmp_path / "both.csv")
    assert read_source(path, TableChoice("agiqa3k")).targets == ("mos_quality", "mos_align")
    assert read_source(path, TableChoice("table")).targets == ("mos_quality", "mos_align", "mos")
    with pytest.raises(DataError, match="lacks columns of the pku layout"):
        read_source(path, TableChoice("pku"))


def test_missing_columns_are_all_named_with_the_nearest_one_and_the_other_layouts(tmp_path: Path) -> None:
    frame = write_pku(tmp_path).rename(columns={"Text_prompt": "text_promt", "MOS_q": "quality"})
    save_table(frame, tmp_path / "annotation.xlsx")
    with pytest.raises(DataError) as error:
        read_source(tmp_path)
    message = str(error.value)
    assert "Text_prompt (nearest: text_promt" in message
    assert "\n  MOS_q" in message
    assert "The columns of the table are: Generated_image, Image_prompt, text_promt, quality" in message
    assert all(name in message for name in LAYOUTS)


def test_a_table_of_foreign_columns_is_explained_as_a_generic_one(tmp_path: Path) -> None:
    path = save_table(pd.DataFrame({"file": ["a"], "caption": ["b"]}), tmp_path / "t.csv")
    with pytest.raises(
        DataError,
        match="columns of the table layout:\n  image\nThe columns .* are: file, caption.\n.*--columns",
    ):
        read_source(path)


def test_a_missing_place_a_folder_without_table_and_one_with_several(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_source(tmp_path / "nowhere")
    with pytest.raises(DataError, match="contains no table, but must contain annotation.xlsx"):
        read_source(tmp_path)
    for name in ("a.csv", "b.parquet"):
        write_table(tmp_path / name)
    with pytest.raises(DataError, match=r"2 tables .*\(a.csv; b.parquet\).*pass the path of the table"):
        read_source(tmp_path)
    assert len(read_source(tmp_path / "b.parquet").frame) == 3


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("image,prompt")
    with pytest.raises(DataError, match="not a table.*.csv, .tsv, .xlsx, .parquet"):
        read_source(tmp_path / "notes.txt")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_header_without_rows_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = save_table(table_rows().iloc[:0], tmp_path / f"t{suffix}")
    with pytest.raises(DataError, match="has a header but no rows"):
        read_source(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"PAR1 nor this PAR1"])
def test_damaged_tables_are_errors_that_name_the_file(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"t{suffix}"):
        read_source(path)


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet"])
def test_half_downloaded_tables_are_errors(tmp_path: Path, suffix: str) -> None:
    path = save_table(table_rows(), tmp_path / f"t{suffix}")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        DataError, match=f"t{suffix} (cannot be read as {suffix}|is no workbook, or it is damaged)"
    ):
        read_source(path)


def test_a_table_in_another_encoding_is_reported(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("image,prompt,mos\na.png,café,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8.*save the table as UTF-8"):
        read_source(tmp_path)


def test_a_csv_whose_rows_have_more_fields_than_the_header_is_not_read_shifted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("prompt,image,mos\na fox, red,a.png,1.5\na cat, black,b.png,2.5\n")
    with pytest.raises(DataError, match="more fields than its header"):
        read_source(tmp_path)


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet"])
def test_a_column_named_by_a_number_is_a_score_like_any_other(tmp_path: Path, suffix: str) -> None:
    frame = table_rows()
    if suffix == ".xlsx":
        frame[2024] = [1.0, 2.0, 3.0]
    else:
        frame["2024"] = [1.0, 2.0, 3.0]
    source = read_source(save_table(frame, tmp_path / f"t{suffix}"))
    assert source.targets == ("mos", "2024") and source.frame["2024"].tolist() == [1.0, 2.0, 3.0]


def test_a_workbook_with_a_damaged_sheet_is_an_error(tmp_path: Path) -> None:
    save_table(table_rows(), tmp_path / "sound.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "sound.xlsx") as sound,
        zipfile.ZipFile(tmp_path / "t.xlsx", "w") as damaged,
    ):
        for name in sound.namelist():
            content = sound.read(name)
            damaged.writestr(name, content[: len(content) // 2] if "sheet1" in name else content)
    with pytest.raises(DataError, match="t.xlsx cannot be read"):
        read_source(tmp_path / "t.xlsx")


@pytest.mark.parametrize("path", ["/dev/null", "a" * 300])
def test_a_path_that_cannot_be_a_data_set_is_an_error(path: str) -> None:
    with pytest.raises(DataError, match="neither a folder nor a file|File name too long"):
        read_source(Path(path))
