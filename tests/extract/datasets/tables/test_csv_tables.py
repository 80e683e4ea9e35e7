"""Tables of text: encodings, separators, quotes, lines."""

import codecs
import csv
from pathlib import Path

import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.read import part_headers, read_part

ROWS = [["007.png", "a fox, red", "1.5"], ["b.png", 'a "sign"\nin two lines', "2"], ["", "  ", "x"]]


def read(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Names, rows and numbers of the rows of a file."""
    (header,) = part_headers(path)
    frame = read_part(header).frame
    assert tuple(frame.columns) == header.columns
    return list(frame.columns), frame.to_numpy().tolist(), frame.index.tolist()


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_separator_is_found_and_cells_stay_as_written(
    tmp_path: Path, suffix: str, separator: str, end: str
) -> None:
    path = tmp_path / f"t{suffix}"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator, lineterminator=end).writerows(
            [["image", "prompt", "mos"], *ROWS]
        )
    assert read(path) == (["image", "prompt", "mos"], ROWS, [0, 1, 2])


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
    ],
)
def test_a_byte_order_mark_states_the_encoding(tmp_path: Path, encoding: str, mark: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(mark + "image,prompt\né.png,狐\n".encode(encoding))
    assert read(path)[:2] == (["image", "prompt"], [["é.png", "狐"]])


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_another_encoding_without_a_mark_is_an_error_with_a_remedy(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("image,prompt\né.png,fox\n".encode(encoding))
    with pytest.raises(DataError, match="save the table as UTF-8"):
        part_headers(path)


def test_names_have_no_white_space_around_them_and_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('image, prompt , , mos\na.png, "a, b", x, 1\n')
    assert read(path)[0] == ["image", "prompt", "Unnamed: 2", "mos"]
    assert read(path)[1] == [["a.png", "a, b", "x", "1"]]


@pytest.mark.parametrize("header", ["image,mos,prompt,mos", "image,mos,prompt, mos "])
def test_two_columns_of_one_name_are_an_error_that_names_both_positions(tmp_path: Path, header: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\na.png,1,fox,2\n")
    with pytest.raises(DataError, match="two columns called 'mos', at positions 2 and 4: rename or remove"):
        part_headers(path)


def test_blank_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\nimage,prompt\n\na.png,fox\n,\nb.png\n\n")
    # The header is in line 2, so that the rows are in lines 4 and 6, which are those of row 2 and 4.
    assert read(path) == (["image", "prompt"], [["a.png", "fox"], ["b.png", ""]], [2, 4])


def test_a_header_without_rows_has_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image,prompt")
    assert read(path) == (["image", "prompt"], [], [])
    path.write_text("\n\n")
    with pytest.raises(DataError, match="is empty: add a header line and rows"):
        part_headers(path)


def test_a_comma_without_quotes_is_an_error_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('image,prompt,mos\n"a\n.png",fox,1\nb.png,a fox, red,1\nc.png,fox,1\nd.png,1,2,3,4\n')
    with pytest.raises(DataError) as error:
        read(path)
    message = str(error.value)
    assert "in lines 4, 6: put fields that contain commas in double quotes" in message
    assert "Error tokenizing" not in message and "\n" not in message


def test_only_some_lines_of_many_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image,mos\n" + "a.png,1,2\n" * 5000)
    with pytest.raises(DataError, match=r"in lines 2, 3, .*11 and 4,990 more: ") as error:
        read(path)
    assert len(str(error.value)) < 500


def test_empty_fields_after_the_last_column_are_accepted_where_all_rows_have_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image,prompt,mos\na.png,fox,1,,\nb.png,dog,2,,\n")
    assert read(path)[1] == [["a.png", "fox", "1"], ["b.png", "dog", "2"]]
    # A comma in the prompt pushes the empty cell of the notes out of the table.
    path.write_text("image,prompt,mos,notes\na.png,fox,1,\nb.png,a dog, 4,2,\n")
    with pytest.raises(DataError, match="more fields than its header, which has 4, in line 3"):
        read(path)


@pytest.mark.parametrize(
    "rows",
    [
        'a.png,"a fox,1\nb.png,dog,2\n',
        'a.png,fox,1\nb.png,"a dog,2',
        'a.png,"a fox,1\nb.png,"a dog",2\nc.png,cat,3\n',  # the second quote closes the first
    ],
)
def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"image,prompt,mos\n{rows}")
    with pytest.raises(DataError, match="quotes in line [23] are not in pairs"):
        read(path)


def test_quotes_inside_a_field_are_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('image,prompt\na.png,a "stop" sign\nb.png,"Stop" sign\nc.png,"a ""stop"" sign"\n')
    assert [row[1] for row in read(path)[1]] == ['a "stop" sign', "Stop sign", 'a "stop" sign']


def test_null_characters_are_an_error_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"image,prompt\na.png,fox\nb.p\0ng,fox\n")
    with pytest.raises(DataError, match="null characters, the first in line 3"):
        part_headers(path)


def test_a_field_may_be_longer_than_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    limit = csv.field_size_limit()
    path.write_text(f"image,data\na.png,{'x' * 2 * limit}\n")
    assert len(read(path)[1][0][1]) == 2 * limit
    assert csv.field_size_limit() == limit


def test_errors_about_lines_with_a_long_field_are_told_as_others(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    long = "x" * 2 * csv.field_size_limit()
    path.write_text(f"image,data\na.png,{long}\nb.png,1,2\n")
    with pytest.raises(DataError, match="line 3"):
        read(path)
    path.write_text(f'image,data\n"a"b,{long}"\n"')
    with pytest.raises(DataError, match="quotes in line"):
        read(path)


def test_a_line_that_states_the_separator_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffsep=;\r\nimage;a,b,c,d\r\nx.png;1,5\r\n".encode())
    (header,) = part_headers(path)
    part = read_part(header)
    assert header.columns == ("image", "a,b,c,d")
    assert part.frame.iloc[0].tolist() == ["x.png", "1,5"]
    assert part.frame.index.tolist()[0] + part.header_lines + 1 == 3
