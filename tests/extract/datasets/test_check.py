"""Every problem of every row is reported with its line, and either stops the work or costs the row."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tier4k.cache.keys import bytes_key, file_key
from tier4k.extract.datasets import image_files
from tier4k.extract.datasets.check import SHOWN_PROBLEMS, CheckedDataset, check, raise_for_problems
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.images.errors import ImageError
from tier4k.extract.pipeline.given_images import as_image
from tier4k.tests.builders.data import (
    PKU_COLUMNS,
    make_picture,
    save_picture,
    save_table,
    table_rows,
    write_pku,
    write_table,
)
from tier4k.tests.builders.known_keys import Known


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares a huge size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        length = struct.pack(">I", len(content))
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return length + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def messages(checked: CheckedDataset) -> dict[int, str]:
    """{line: its problem}, several problems of a line joined."""
    joined: dict[int, str] = {}
    for problem in checked.problems:
        earlier = joined.get(problem.line)
        joined[problem.line] = f"{earlier}; {problem.message}" if earlier else problem.message
    return joined


def test_a_sound_data_set_has_no_problems_and_keeps_all_its_rows(tmp_path: Path) -> None:
    frame = write_pku(tmp_path)
    checked = check(tmp_path)
    table = checked.manifest.table
    assert checked.problems == ()
    assert table["name"].tolist() == frame["Generated_image"].tolist()
    for row in table.itertuples():
        assert row.image_key == file_key(tmp_path / "All" / row.name).hex() == file_key(Path(row.image)).hex()
        assert row.image_prompt_key == (file_key(Path(row.image_prompt)).hex() if row.image_prompt else "")


def test_every_kind_of_problem_is_reported_at_once_with_line_and_name(tmp_path: Path) -> None:
    frame = write_pku(tmp_path, rows=14, image_to_image=4).astype(object)
    names = frame["Generated_image"].tolist()
    pictures = tmp_path / "All"
    (pictures / names[0]).unlink()
    (pictures / names[1]).write_bytes(b"")
    (pictures / names[2]).write_bytes((pictures / names[2]).read_bytes()[:-600])
    (pictures / names[4]).write_bytes(b"<html>404 not found</html>")
    (pictures / names[5]).write_bytes(bomb(60_000, 60_000))
    (pictures / names[6]).write_bytes(bomb(10_000, 10_000))
    frame.loc[7, "MOS_q"] = "n/a"
    frame.loc[8, ["MOS_q", "MOS_a", "MOS_c"]] = float("nan")
    frame.loc[9, "MOS_c"] = "inf"
    frame.loc[10, "Text_prompt"] = "  "
    frame.loc[12, "Generated_image"] = names[11]
    frame.loc[13, "Generated_image"] = None
    frame.loc[3, "Image_prompt"] = "nowhere.png"
    save_table(frame, tmp_path / "annotation.xlsx")

    found = messages(check(tmp_path))
    expected = {
        2: f"there is no file {pictures / names[0]}",
        3: "the file has zero bytes",
        4: "truncated",
        5: "nowhere.png",
        6: "of the formats JPEG",
        7: "decompression bomb",
        8: "10000 x 10000, is larger than",
        9: "MOS_q is 'n/a'",
        10: "MOS_q, MOS_a, MOS_c are empty",
        11: "MOS_c is 'inf'",
        12: "the text prompt is empty",
        13: f"{names[11]!r} is in lines 13, 14",
        14: "names must be unique",
        15: "the name of the image is empty",
    }
    assert set(found) == set(expected)
    for line, text in expected.items():
        assert text in found[line], line
    with pytest.raises(DataError) as error:
        raise_for_problems(check(tmp_path), "stop")
    message = str(error.value)
    assert "14 problems in 14 of 14 rows" in message
    assert "--on-error skip" in message
    assert all(f"line {line}, " in message for line in expected)
    assert names[4] in message
    with pytest.raises(DataError, match="No usable row is left"):
        raise_for_problems(check(tmp_path), "skip")


@pytest.mark.parametrize("value", ["four", "-", "1,5,2", "inf", "-inf", ""])
def test_scores_that_are_no_finite_numbers_are_problems(tmp_path: Path, value: str) -> None:
    path = write_table(tmp_path / "t.csv", table_rows(mos=["1", value, "2"]))
    checked = check(path)
    assert [problem.line for problem in checked.problems] == [3]
    assert checked.manifest.table["mos"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet"])
def test_a_row_keeps_the_targets_that_it_has_a_score_for(tmp_path: Path, suffix: str) -> None:
    table = table_rows(mos=[1.5, np.nan, np.nan], second=[np.nan, 2.5, np.nan])
    checked = check(write_table(tmp_path / f"t{suffix}", table))
    assert messages(checked) == {4: "mos, second are empty"}
    left = checked.manifest.table
    assert checked.manifest.targets == ("mos", "second")
    np.testing.assert_array_equal(left["mos"], [1.5, np.nan])
    np.testing.assert_array_equal(left["second"], [np.nan, 2.5])


def test_text_beside_a_score_is_a_problem_and_white_space_is_an_empty_cell(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c.png", "d.png"]
    table = table_rows(names, mos=["1", "2", "3", " "], second=["n/a", " ", "4", "5"])
    checked = check(write_table(tmp_path / "t.csv", table))
    assert messages(checked) == {2: "second is 'n/a', not a finite number"}
    np.testing.assert_array_equal(checked.manifest.table["second"], [np.nan, 4.0, 5.0])
    np.testing.assert_array_equal(checked.manifest.table["mos"], [2.0, 3.0, np.nan])


def test_skipping_costs_only_the_rows_with_problems_and_lists_them(tmp_path: Path) -> None:
    frame = write_pku(tmp_path)
    (tmp_path / "All" / frame.loc[2, "Generated_image"]).write_bytes(b"")
    (tmp_path / "I2I" / "Image_prompt" / "0.png").unlink()
    checked = raise_for_problems(check(tmp_path), "skip")
    assert {problem.line for problem in checked.problems} == {2, 3, 4}
    assert (checked.rows, checked.skipped) == (8, 3)
    assert checked.manifest.table["name"].tolist() == frame["Generated_image"][3:].tolist()
    checked.write_problems(tmp_path / "out" / "skipped.csv")
    written = pd.read_csv(tmp_path / "out" / "skipped.csv")
    assert written["line"].tolist() == [2, 3, 4]
    assert written["name"].tolist() == frame["Generated_image"][:3].tolist()
    assert "zero bytes" in written["problem"][2]


def test_a_damaged_image_prompt_is_a_problem_of_every_row_that_uses_it(tmp_path: Path) -> None:
    write_pku(tmp_path)
    (tmp_path / "I2I" / "Image_prompt" / "1.png").write_bytes(b"GIF89a")
    found = messages(check(tmp_path))
    assert set(found) == {4, 5}
    assert all(text.startswith("image prompt ") for text in found.values())


def test_images_may_be_anywhere_on_the_machine(tmp_path: Path) -> None:
    save_picture(tmp_path / "disk" / "one.png", 1)
    save_picture(tmp_path / "two.png", 2)
    save_picture(tmp_path / "data" / "three.png", 3)
    names = [str(tmp_path / "disk" / "one.png"), "../two.png", "three.png"]
    checked = check(save_table(table_rows(names, image_prompt=names[::-1]), tmp_path / "data" / "t.csv"))
    assert checked.problems == ()
    table = checked.manifest.table
    files = ["disk/one.png", "two.png", "data/three.png"]
    keys = [file_key(tmp_path / name).hex() for name in files]
    assert (table["image_key"].tolist(), table["image_prompt_key"].tolist()) == (keys, keys[::-1])


def test_links_to_images_and_to_folders_of_images_are_followed(tmp_path: Path) -> None:
    # The cache of a model hub, and data under version control, keep every image behind a link.
    frame = write_pku(tmp_path / "data")
    (tmp_path / "data" / "All").rename(tmp_path / "disk")
    (tmp_path / "data" / "All").symlink_to(tmp_path / "disk")
    before = check(tmp_path / "data")
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name in frame["Generated_image"]:
        blob = (tmp_path / "disk" / name).rename(blobs / f"{name}-content")
        (tmp_path / "disk" / name).symlink_to(blob)
    linked = check(tmp_path / "data")
    assert before.problems == linked.problems == ()
    assert linked.manifest.table["image_key"].tolist() == before.manifest.table["image_key"].tolist()
    (blobs / f"{frame.loc[1, 'Generated_image']}-content").unlink()
    assert "there is no file" in messages(check(tmp_path / "data"))[3]


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "loop.png", "folder", "a\0b.png"])
def test_names_that_the_system_cannot_open_are_problems(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "folder").mkdir()
    path = save_table(table_rows(["MJ_0.png", name]), tmp_path / "t.parquet")
    save_picture(tmp_path / "MJ_0.png", 0)
    assert {problem.line for problem in check(path).problems} == {3}


def test_line_numbers_count_blank_lines_which_are_no_rows(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", 0)
    (tmp_path / "t.csv").write_text("image,prompt,mos\na.png,a fox,1\n\nb.png,a cat,2\n\n")
    checked = check(tmp_path)
    assert [(problem.line, problem.name) for problem in checked.problems] == [(4, "b.png")]
    assert "in 1 of 2 rows" in checked.describe_problems()
    assert checked.manifest.table["row"].tolist() == [0]
    blank = pd.DataFrame(
        [["a.png", None, "a fox", 1, 1, 1], [None] * 6, ["b.png", None, "a cat", 1, 1, 1]],
        columns=list(PKU_COLUMNS),
    )
    save_table(blank, tmp_path / "pku" / "annotation.xlsx")
    save_picture(tmp_path / "pku" / "All" / "a.png", 0)
    assert [problem.line for problem in check(tmp_path / "pku").problems] == [4]


def test_images_that_are_known_are_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pku(tmp_path)
    keys = check(tmp_path).manifest.images().index
    decoded: list[str] = []
    monkeypatch.setattr(image_files, "inspect", lambda data: decoded.append(bytes_key(data).hex()))
    check(tmp_path, known=Known(keys))
    assert decoded == []
    check(tmp_path, known=Known(keys[2:]))
    assert sorted(decoded) == sorted(keys[:2])


def test_equal_images_are_decoded_once_and_progress_ends_at_the_number_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path / "t.csv")
    (tmp_path / "MJ_1.png").write_bytes((tmp_path / "MJ_0.png").read_bytes())
    decoded: list[bytes] = []
    monkeypatch.setattr(image_files, "inspect", decoded.append)
    seen: list[tuple[int, int]] = []
    assert check(path, progress=lambda done, total: seen.append((done, total))).problems == ()
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert len(decoded) == len(set(decoded)) == 2


def test_equal_damaged_images_are_problems_of_all_their_rows(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv")
    for name in ("MJ_0.png", "SD_2.png"):
        (tmp_path / name).write_bytes(b"no picture")
    found = messages(check(path))
    assert set(found) == {2, 4}
    assert "SD_2.png" in found[4]


def test_many_problems_are_counted_and_the_first_shown(tmp_path: Path) -> None:
    path = save_table(table_rows([f"{row}.png" for row in range(SHOWN_PROBLEMS + 5)]), tmp_path / "t.csv")
    message = check(path).describe_problems()
    assert message.count("there is no file") == SHOWN_PROBLEMS
    assert "… and 5 more" in message


def test_the_modes_and_formats_of_real_images_are_accepted(tmp_path: Path) -> None:
    picture = make_picture(0)
    names = []
    for name, mode in (
        ("a.jpg", "RGB"),
        ("b.jpg", "CMYK"),
        ("c.png", "RGBA"),
        ("d.png", "P"),
        ("e.png", "L"),
        ("f.webp", "RGB"),
        ("g.bmp", "RGB"),
    ):
        picture.convert(mode).save(tmp_path / name)
        names.append(name)
    assert check(save_table(table_rows(names), tmp_path / "t.csv")).problems == ()


def test_grey_of_more_than_8_bits_is_a_problem_as_it_would_become_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 20), 30_000, np.uint16)).save(tmp_path / "h.png")
    Image.fromarray(np.full((20, 20), 0.5, np.float32)).save(tmp_path / "f.tiff")
    problems = check(save_table(table_rows(["h.png", "f.tiff"]), tmp_path / "t.csv")).problems
    assert [problem.line for problem in problems] == [2, 3]
    assert all(
        "more than 8 bits" in problem.message and "save the image with 8 bits" in problem.message
        for problem in problems
    )
    with pytest.raises(ImageError, match="mode I;16"):
        as_image(Image.open(tmp_path / "h.png"))


@pytest.mark.parametrize("text", ["n/a", "NaN", "None", "-", " NA "])
def test_a_score_column_that_is_mostly_a_text_for_missing_values_does_not_vanish(
    tmp_path: Path, text: str
) -> None:
    checked = check(write_table(tmp_path / "t.csv", table_rows(mos=[text, "2", text], second=[1, 2, 3])))
    assert checked.manifest.targets == ("mos", "second")
    assert set(messages(checked)) == {2, 4} and "not a finite number" in messages(checked)[2]


def test_an_empty_generator_is_unknown(tmp_path: Path) -> None:
    checked = check(write_table(tmp_path / "t.csv", table_rows(generator=["MJ", "", " "])))
    assert checked.manifest.table["generator"].tolist() == ["MJ", "unknown", "unknown"]


@pytest.mark.parametrize("score", ["1e300", "-1e101", "1e-300"])
def test_scores_whose_squares_are_no_numbers_are_problems(tmp_path: Path, score: str) -> None:
    checked = check(write_table(tmp_path / "t.csv", table_rows(mos=[score, "0", "1e99"])))
    assert messages(checked) == {2: f"mos is {score!r}, whose square is no number: use another unit"}


def test_control_characters_of_a_name_cannot_break_the_line_of_its_problem(tmp_path: Path) -> None:
    names = ["a\nb.png", "\x1b[31mred.png", "\u202egnp.png"]
    table_rows(names).to_csv(tmp_path / "t.csv", index=False)
    lines = [str(problem) for problem in check(tmp_path / "t.csv").problems]
    assert [line.isprintable() for line in lines] == [True, True, True]
    assert "a\\nb.png" in lines[0]
    assert "\\x1b[31mred.png" in lines[1]
    assert "\\u202egnp.png" in lines[2]


def test_a_name_of_many_rows_is_reported_with_few_of_their_lines(tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", table_rows(["MJ_0.png"] * 300))
    found = messages(check(tmp_path / "table.csv"))
    assert "'MJ_0.png' is in lines 2, 3, 4, 5, 6 and 295 more; names must be unique" in found[2]
    assert max(map(len, found.values())) < 300
