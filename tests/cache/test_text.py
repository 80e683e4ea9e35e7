"""Texts of users' files are read in any Unicode encoding, and names of any bytes can be shown."""

import os
from pathlib import Path

import pytest

from tier4k.cache.text import first_few, read_text, shown, utf8_path, without_long_lines

TEXT = '{"prompt": "a café in Zürich, 猫"}\r\n'


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(TEXT.encode(), id="utf-8 without a mark"),
        pytest.param(b"\xef\xbb\xbf" + TEXT.encode(), id="utf-8"),
        pytest.param(b"\xff\xfe" + TEXT.encode("utf-16-le"), id="utf-16-le"),
        pytest.param(b"\xfe\xff" + TEXT.encode("utf-16-be"), id="utf-16-be"),
        pytest.param(b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"), id="utf-32-le"),
        pytest.param(b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"), id="utf-32-be"),
    ],
)
def test_a_file_is_read_by_its_byte_order_mark(tmp_path: Path, data: bytes):
    path = tmp_path / "text"
    path.write_bytes(data)
    assert read_text(path) == TEXT


@pytest.mark.parametrize("data", [b"caf\xe9", b"\xef\xbb\xbfcaf\xe9", b"\xff\xfea"])
def test_other_bytes_are_an_error(tmp_path: Path, data: bytes):
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(UnicodeDecodeError):
        read_text(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"caf\xe9_1.png", r"caf\xe9_1.png"),
        ("Zürich 猫.png".encode(), "Zürich 猫.png"),
        (b"\x80\xff", r"\x80\xff"),
    ],
)
def test_bytes_of_a_name_that_are_not_utf_8_are_shown_escaped(name: bytes, expected: str):
    assert shown(Path(os.fsdecode(name))) == expected


def test_every_text_of_python_can_be_shown():
    every_half = "".join(map(chr, range(0xD800, 0xE000)))
    shown(every_half).encode()
    assert shown("a\ud800b") == r"a\ud800b"


def test_a_path_in_utf_8_leads_to_a_file_or_folder_of_any_name(tmp_path: Path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    file = folder / "file"
    file.write_text("content")
    assert folder.name != shown(folder.name)
    with utf8_path(file) as readable:
        str(readable).encode()
        assert readable.read_text() == "content"
    with utf8_path(folder) as readable:
        str(readable).encode()
        assert (readable / "file").read_text() == "content"
    with utf8_path(tmp_path) as readable:
        assert readable == tmp_path


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, ""), (1, "1"), (3, "1, 2, 3"), (4, "1, 2, 3 and 1 more"), (2003, "1, 2, 3 and 2,000 more")],
)
def test_a_message_has_the_first_items_and_the_number_of_the_others(count: int, text: str) -> None:
    assert first_few(range(1, count + 1), 3) == text


def test_a_long_line_of_a_message_keeps_its_beginning_and_its_end() -> None:
    message = f"first line\nthe name {'x' * 1_000_000} is unknown: pass another one\nlast line"
    first, middle, last = without_long_lines(message).split("\n")
    assert (first, last) == ("first line", "last line")
    assert len(middle) < 1400
    assert middle.startswith("the name xxx") and middle.endswith("xxx is unknown: pass another one")
