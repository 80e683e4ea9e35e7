"""The counts of `tier data check` equal those made by hand."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.summary import DataSummary, ScoreRange, summarize, summary_table
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.text_tokenizer import load_text_tokenizer
from tier4k.tests.builders.data import make_picture, save_table, table_rows, write_pku, write_table
from tier4k.tests.builders.known_keys import Known
from tier4k.tests.builders.screens import printed

TOKEN_LINES = {"truncated prompts", "unknown tokens", "equal tokens"}


def summary_of(root: Path) -> DataSummary:
    return summarize(check(root), load_text_tokenizer(find_text_encoder("minilm")))


def test_counts_are_those_of_the_rows(tmp_path: Path) -> None:
    annotation = write_pku(tmp_path, rows=8, image_to_image=4)
    found = summary_of(tmp_path)
    assert (found.rows, found.skipped, found.image_to_image) == (8, 0, 4)
    assert (found.images, found.image_prompts, found.prompts, found.groups) == (8, 2, 4, 4)
    assert found.generators == {"MJ": 4, "DALLE": 4}
    scores = annotation["MOS_a"]
    expected = ScoreRange(scores.min(), scores.mean(), scores.max())
    assert vars(found.targets["MOS_a"]) == pytest.approx(vars(expected))
    files = [*(tmp_path / "All").iterdir(), *(tmp_path / "I2I" / "Image_prompt").iterdir()]
    assert found.megabytes == pytest.approx(sum(path.stat().st_size for path in files) / 1e6)
    assert found.duplicates == []
    assert [lines_of(found)[name] for name in TOKEN_LINES] == ["none"] * 3


def test_equal_images_and_unusable_rows_are_counted(tmp_path: Path) -> None:
    annotation = write_pku(tmp_path)
    names = [tmp_path / "All" / name for name in annotation["Generated_image"]]
    shutil.copy(names[5], names[6])
    names[7].write_bytes(b"")
    found = summary_of(tmp_path)
    assert (found.rows, found.skipped, found.images) == (7, 1, 6)
    assert found.duplicates == [[names[5].name, names[6].name]]
    text = shown(found)
    assert "7 usable, 1 with problems" in text and f"{names[5].name} = {names[6].name}" in text


def test_missing_scores_and_merged_generators_are_shown(tmp_path: Path) -> None:
    annotation = write_pku(tmp_path)
    annotation.loc[[1, 3, 6], "MOS_a"] = float("nan")
    annotation["MOS_c"] = float("nan")
    for name in annotation["Generated_image"][:2]:
        (tmp_path / "All" / name).rename(tmp_path / "All" / name.lower())
    annotation.loc[:1, "Generated_image"] = annotation["Generated_image"][:2].str.lower()
    save_table(annotation, tmp_path / "annotation.xlsx")
    found = summary_of(tmp_path)
    assert found.missing_scores == {"MOS_a": 3, "MOS_c": 8}
    assert found.merged_generators == {"MJ": ("mj",), "DALLE": ("dalle",)}
    assert found.generators == {"MJ": 4, "DALLE": 4}
    scores = annotation["MOS_a"].dropna()
    lines = lines_of(found)
    assert lines["target MOS_a"] == (
        f"{scores.min():.3f} … {scores.max():.3f}, mean {sum(scores) / 5:.3f}; 3 rows without a score "
        "(score of the layout pku)"
    )
    assert "without" not in lines["target MOS_q"]
    assert lines["target MOS_c"] == "no scores (score of the layout pku)"
    assert lines["merged generators"] == "MJ = mj; DALLE = dalle"


def test_prompts_that_the_text_encoder_truncates_are_counted(tmp_path: Path) -> None:
    annotation = write_pku(tmp_path, rows=4, image_to_image=0)
    # [CLS] and [SEP] are two tokens more.
    annotation["Text_prompt"] = ["word " * 510, "word " * 511, "short", "short"]
    save_table(annotation, tmp_path / "annotation.xlsx")
    lines = lines_of(summary_of(tmp_path))
    assert lines["truncated prompts"].startswith("1 of 3 prompts is truncated at 512 tokens, for example")
    assert lines["unknown tokens"] == "none"
    assert lines["equal tokens"].startswith("2 of 3 prompts have the same tokens as another one")


def test_prompts_of_unknown_and_of_equal_tokens_are_counted(tmp_path: Path) -> None:
    annotation = write_pku(tmp_path, rows=4, image_to_image=0)
    annotation["Text_prompt"] = ["🦊❄️", "🐶🌿", "a fox", "a fox"]
    save_table(annotation, tmp_path / "annotation.xlsx")
    lines = lines_of(summary_of(tmp_path))
    assert lines["truncated prompts"] == "none"
    # Without [CLS] and [SEP]: one unknown token for each of two prompts, and "a" and "fox".
    assert lines["unknown tokens"].startswith("2 of 3 prompts have unknown tokens (50% of all tokens)")
    assert lines["equal tokens"].endswith("for example '🦊❄️' = '🐶🌿'")


def test_without_a_tokenizer_the_summary_says_not_counted(tmp_path: Path) -> None:
    write_pku(tmp_path)
    lines = lines_of(summarize(check(tmp_path), None))
    assert lines["tokens of prompts"].startswith("not counted") and not TOKEN_LINES & lines.keys()


def test_a_data_set_without_a_usable_row_is_summarised_too(tmp_path: Path) -> None:
    write_pku(tmp_path, rows=2, image_to_image=0)
    table = pd.read_excel(tmp_path / "annotation.xlsx")
    save_table(table.assign(MOS_q="bad"), tmp_path / "annotation.xlsx")
    found = summary_of(tmp_path)
    assert (found.rows, found.skipped, found.targets) == (0, 2, {})
    assert "0 usable, 2 with problems" in shown(found)


def test_scores_of_several_data_sets_are_not_mixed(tmp_path: Path) -> None:
    rows = table_rows(std_mos=0.6, raters=4)
    one = write_table(tmp_path / "a.csv", rows)
    other = table_rows(std_mos=60.0, raters=4)
    two = write_table(tmp_path / "b.csv", other.assign(mos=[100.0, "", 300.0], beauty=[1, 2, 3]))
    lines = lines_of(summarize(check([one, two]), None))
    assert lines["target mos of a"] == "0.500 … 2.500, mean 1.500 (numbers in 3 of 3 rows)"
    assert lines["target mos of b"] == (
        "100.000 … 300.000, mean 200.000; 1 rows without a score (numbers in 2 of 3 rows)"
    )
    assert lines["target beauty of a"] == "no scores (no column)"
    assert lines["columns of a"] == lines["columns of b"]
    share = 1 - 0.3**2 / pd.Series([0.5, 1.5, 2.5]).var(ddof=1)
    assert lines["reliability of mos of a"].startswith(f"{share:.3f} ")
    share = 1 - 30**2 / pd.Series([100, 300]).var(ddof=1)
    assert lines["reliability of mos of b"].startswith(f"{share:.3f} ")


def test_scores_of_the_data_sets_of_one_table_are_not_mixed(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", table_rows(dataset=["x", "y", "x"]))
    lines = lines_of(summarize(check(path), None))
    assert lines["target mos of x"] == "0.500 … 2.500, mean 1.500 (numbers in 3 of 3 rows)"
    assert lines["target mos of y"] == "1.500 … 1.500, mean 1.500 (numbers in 3 of 3 rows)"
    assert "target mos" not in lines and "columns" in lines


def lines_of(summary: DataSummary) -> dict[str, str]:
    return dict(re.findall(r"│ (.+?) +│ (.+?) +│", shown(summary)))


def shown(summary: DataSummary) -> str:
    return printed(summary_table(summary), width=200)


def test_images_that_are_turned_or_transparent_are_counted(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv")
    exif = Image.Exif()
    exif[0x0112] = 6
    make_picture(7).save(tmp_path / "MJ_0.jpg", exif=exif)
    make_picture(8).convert("RGBA").save(tmp_path / "MJ_1.png")
    save_table(table_rows(["MJ_0.jpg", "MJ_1.png", "SD_2.png"]), path)
    lines = lines_of(summary_of(path))
    assert lines["turned upright"] == "1 images, as their EXIF orientation says"
    assert lines["composited onto white"] == "1 images with transparency"
    known = Known(check(path).manifest.images().index)
    assert (check(path, known=known).turned, check(path, known=known).transparent) == (1, 1)
