"""Workbooks: sheets, formulas, damage."""

import io
import re
import zipfile
from datetime import datetime
from pathlib import Path

import openpyxl
import openpyxl.chart
import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.datasets.tables import workbooks
from tier4k.extract.datasets.tables.cells import Formula
from tier4k.extract.datasets.tables.part import PartHeader
from tier4k.extract.datasets.tables.read import part_headers, read_part


def write_book(path: Path, **sheets: list[list[object]]) -> Path:
    """A workbook with the given cells in each sheet."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for number, row in enumerate(rows, start=1):
            for position, cell in enumerate(row, start=1):
                if cell is not None:
                    sheet.cell(number, position, cell)
    book.save(path)
    return path


def rows_of(header: PartHeader) -> list[list[object]]:
    frame = read_part(header).frame
    return frame.to_numpy().tolist()


def replace_in_sheet(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes of the XML of the first sheet."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as read, zipfile.ZipFile(path, "w") as write:
        for name in read.namelist():
            content = read.read(name)
            if name == "xl/worksheets/sheet1.xml":
                assert old in content
                content = content.replace(old, new)
            write.writestr(name, content)


def test_every_sheet_is_a_part_and_hidden_ones_are_known(tmp_path: Path) -> None:
    table = [["image", "mos"], ["a.png", 1]]
    path = write_book(tmp_path / "t.xlsx", old=table, final=table, secret=table, empty=[])
    book = openpyxl.load_workbook(path)
    book["old"].sheet_state, book["secret"].sheet_state = "hidden", "veryHidden"
    chart = openpyxl.chart.BarChart()
    chart.add_data(openpyxl.chart.Reference(book["final"], min_col=2, min_row=1, max_row=2))
    book.create_chartsheet("chart").add_chart(chart)
    book.save(path)
    headers = part_headers(path)
    found = [(header.sheet, header.is_hidden) for header in headers]
    assert found == [("old", True), ("final", False), ("secret", True)]
    assert headers[0].label == "t.xlsx, hidden sheet old"


def test_cells_have_their_types_and_blank_rows_are_counted(tmp_path: Path) -> None:
    day = datetime(2026, 1, 2)
    path = write_book(
        tmp_path / "t.xlsx",
        s=[
            [],
            ["image ", None, "mos", 2024],
            [],
            ["007", 3.0, 1.5, day],
            [7, None, True, "#N/A"],
            [None] * 4,
        ],
    )
    (header,) = part_headers(path)
    assert header.columns == ("image", "Unnamed: 1", "mos", "2024")
    frame = read_part(header).frame
    assert frame.index.tolist() == [2, 3]  # in lines 4 and 5
    assert frame.to_numpy().tolist() == [["007", 3, 1.5, day], [7, None, True, "#N/A"]]
    assert type(frame.iloc[0, 1]) is int


def test_cells_beyond_the_header_are_columns_without_a_name(tmp_path: Path) -> None:
    path = write_book(tmp_path / "t.xlsx", s=[["image"], ["a.png", None, "see below"], ["b.png"]])
    (header,) = part_headers(path)
    frame = read_part(header).frame
    assert list(frame.columns) == ["image", "Unnamed: 2"]
    assert frame["Unnamed: 2"].tolist() == ["see below", None]


def test_two_columns_of_one_name_are_an_error_that_names_both_positions(tmp_path: Path) -> None:
    damaged = [["image", "mos", "x", "mos "], ["a.png", 1, 2, 3]]
    path = write_book(tmp_path / "t.xlsx", final=damaged)
    with pytest.raises(DataError, match="sheet final: it has two columns called 'mos', at positions 2 and 4"):
        read_source(path)
    write_book(path, remarks=damaged, table=[["image", "mos"], ["a.png", 1]])
    (left_out,) = read_source(path).report.left_out
    assert left_out.startswith("t.xlsx, sheet remarks (it has two columns called 'mos'")
    with pytest.raises(DataError, match="sheet remarks: it has two columns"):
        read_source(path, TableChoice(sheet="remarks"))


def test_a_formula_without_stored_value_is_known_and_one_with_a_value_is_its_value(tmp_path: Path) -> None:
    path = write_book(
        tmp_path / "t.xlsx",
        s=[
            ["image", "r", "mos"],
            ["a.png", 1, "=B2*2"],
            ["b.png", 2, "=B3*2"],
            [None, None, "=B4"],
            ["c.png"],
        ],
    )
    replace_in_sheet(path, b"<f>B3*2</f><v />", b"<f>B3*2</f><v>4</v>")
    frame = read_part(part_headers(path)[0]).frame
    cells = frame["mos"].tolist()
    assert cells == ["=B2*2", 4, "=B4", None]
    assert [isinstance(cell, Formula) for cell in cells] == [True, False, True, False]
    assert frame.index.tolist() == [0, 1, 2, 3]  # a row with nothing but such a formula is not blank


def test_the_empty_text_is_a_stored_value_of_a_formula(tmp_path: Path) -> None:
    path = write_book(tmp_path / "t.xlsx", s=[["image", "mos"], ["a.png", '=IF(1,"","")']])
    replace_in_sheet(path, b'<c r="B2"><f>', b'<c r="B2" t="str"><f>')
    assert read_part(part_headers(path)[0]).frame["mos"].tolist() == [None]


def test_a_workbook_without_formulas_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_book(tmp_path / "t.xlsx", s=[["image", "mos"], ["a.png", 1]], other=[["x"], [2]])
    opened = []
    load = openpyxl.load_workbook
    monkeypatch.setattr(openpyxl, "load_workbook", lambda *a, **k: opened.append(1) or load(*a, **k))
    first, second = part_headers(path)
    assert rows_of(first) == [["a.png", 1]] and rows_of(second) == [[2]]
    assert len(opened) == 1


def test_a_tag_of_a_formula_is_found_across_two_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "CHUNK", 100)
    for position in range(90, 110):
        assert workbooks._contains_formula(io.BytesIO(b"x" * position + b"<x:f>1</x:f>" + b"x" * 200))
    assert not workbooks._contains_formula(io.BytesIO(b"<fill><font/></fill>" * 30))


def test_a_cell_in_the_last_corner_costs_no_memory(tmp_path: Path) -> None:
    path = write_book(tmp_path / "t.xlsx", s=[["image", "mos"], ["a.png", 1]])
    corner = b'<row r="30000"><c r="XFD30000"><v>1</v></c></row></sheetData>'
    replace_in_sheet(path, b"</sheetData>", corner)
    frame = read_part(part_headers(path)[0]).frame
    assert frame.shape == (2, 3)
    assert frame.index.tolist() == [0, 29998]


@pytest.mark.parametrize("row", ["99999999999", "1048577"])
def test_a_row_beyond_those_of_a_spreadsheet_is_refused(tmp_path: Path, row: str) -> None:
    path = write_book(tmp_path / "t.xlsx", s=[["image", "mos"], ["a.png", 1]])
    replace_in_sheet(path, b'<row r="2"', f'<row r="{row}"'.encode())
    with pytest.raises(DataError, match="sheet s, has more than 1,048,576 rows.*delete the cells"):
        read_part(part_headers(path)[0])


def test_cells_far_to_the_right_in_many_rows_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbooks, "MOST_CELLS", 100_000)
    path = write_book(tmp_path / "t.xlsx", s=[["image", "mos"], ["a.png", 1]])
    rows = "".join(f'<row r="{row}"><c r="XFD{row}"><v>1</v></c></row>' for row in range(3, 20))
    replace_in_sheet(path, b"</sheetData>", f"{rows}</sheetData>".encode())
    with pytest.raises(DataError, match="more than 100,000 cells.*delete the cells"):
        read_part(part_headers(path)[0])


def test_members_that_unpack_to_more_than_any_table_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbooks, "LARGEST_CONTENT", 10_000)
    monkeypatch.setattr(openpyxl, "load_workbook", None)
    path = write_book(tmp_path / "t.xlsx", s=[["image", "mos"], ["a.png", 1]])
    with pytest.raises(DataError, match="MB of memory.*save the table as .csv"):
        part_headers(path)


@pytest.mark.parametrize(
    ("field", "value"), [(8, 1), (10, 99), (10, 9)], ids=["encrypted", "AES", "Deflate64"]
)
@pytest.mark.parametrize("member", ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "[Content_Types].xml"])
def test_a_member_that_is_encrypted_or_packed_unusually_is_explained(
    tmp_path: Path, member: str, field: int, value: int
) -> None:
    """`field` is a position in the directory of the zip archive: flags, or the number of the method."""
    path = write_book(tmp_path / "t.xlsx", s=[["image", "mos"], ["a.png", 1]])
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(member.encode()))
    place = int.from_bytes(content[entry + 42 : entry + 46], "little")
    for start in (entry + field, place + field - 2):
        content[start : start + 2] = value.to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match="t.xlsx cannot be read as .xlsx.*save it again") as error:
        read_part(part_headers(path)[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "save it again as .xlsx"),
        (b"image,prompt\na,b\n", "a table of text must end in .csv or .tsv"),
        (workbooks.OLD_FORM + bytes(600), "old form (.xls): save it as .xlsx"),
        (workbooks.OLD_FORM + bytes(600) + workbooks.ENCRYPTED, "is encrypted: save the workbook without"),
    ],
)
def test_other_files_are_explained_in_one_paragraph(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.xlsx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        part_headers(path)
    assert "\n" not in str(error.value)


def test_a_workbook_without_cells_is_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty: add a header line and rows"):
        part_headers(write_book(tmp_path / "t.xlsx", a=[], b=[]))
