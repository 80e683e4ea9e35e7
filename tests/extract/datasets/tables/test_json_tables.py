"""Tables of JSON."""

import json
import re
from pathlib import Path

import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.read import part_headers, read_part

ROWS = [
    {"file_name": "a.png", "text": "fox", " mos ": 1.5},
    {"file_name": "007", "tags": ["x", 1], "mos": None},
    {},
]

EXPECTED = [["a.png", "fox", 1.5, None], ["007", None, None, ["x", 1]], [None] * 4]


def test_a_list_of_objects_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("\ufeff" + json.dumps(ROWS), encoding="utf-8")
    (header,) = part_headers(path)
    assert header.columns == ("file_name", "text", "mos", "tags")
    part = read_part(header)
    assert part.frame.to_numpy().tolist() == EXPECTED
    assert part.frame.index.tolist() == [0, 1, 2] and part.header_lines == 0


def test_one_object_a_line_is_a_table_and_blank_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "metadata.jsonl"
    lines = [json.dumps(row) for row in ROWS]
    path.write_text(f"{lines[0]}\r\n\n{lines[1]}\n{lines[2]}\n", encoding="utf-16")
    (header,) = part_headers(path)
    part = read_part(header)
    assert part.frame.to_numpy().tolist() == EXPECTED
    assert part.frame.index.tolist() == [0, 2, 3] and part.header_lines == 0


def test_damaged_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n{"a": \n[1]\n{"a": 1, "a ": 2}\n' + "x\n" * 10)
    with pytest.raises(DataError, match=r"one JSON object a line, but has not in line 2 \(.*8 more") as error:
        part_headers(path)
    message = str(error.value)
    assert "line 3 (no object)" in message
    assert "line 4 (an object has two columns called 'a', at positions 1 and 2" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"srcc": 0.5}', "is no table, as it is not a list of objects"),
        ("[1, 2]", "is no table"),
        ('[{"a": 1}, [2]]', "is no table"),
        ("[]", "is empty: it must be a list of objects"),
        ("[{}]", "is empty"),
        ('[{"a": 1}', "cannot be read as .json"),
        ("[" * 100_000, "cannot be read as .json"),
        ('[{"mos": 1, "x": 2, "mos": 3}]', "two columns called 'mos', at positions 1 and 3"),
    ],
)
def test_other_contents_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        part_headers(path)


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_another_encoding_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes('{"image": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 .*: save the table as UTF-8"):
        part_headers(path)
