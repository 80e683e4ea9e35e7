"""Of a workbook with several sheets the visible one with the columns is read; the others are reported."""

from collections.abc import Mapping
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.tests.builders.data import save_picture, table_rows


def write_workbook(
    path: Path,
    sheets: Mapping[str, pd.DataFrame],
    states: Mapping[str, str] | None = None,
) -> Path:
    """A workbook with a sheet for every table; a state is "hidden" or "veryHidden"."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, frame in sheets.items():
        sheet = book.create_sheet(name)
        sheet.append(list(frame.columns))
        for row in frame.itertuples(index=False):
            sheet.append(list(row))
        sheet.sheet_state = (states or {}).get(name, "visible")
    book.save(path)
    return path


OLD, FINAL = table_rows(mos=[0, 0, 0]), table_rows()


@pytest.mark.parametrize("state", ["hidden", "veryHidden"])
def test_a_hidden_sheet_is_not_read_and_reported(tmp_path: Path, state: str) -> None:
    path = write_workbook(tmp_path / "t.xlsx", {"old": OLD, "final": FINAL}, {"old": state})
    source = read_source(path)
    assert source.frame["mos"].tolist() == FINAL["mos"].tolist()
    assert source.report.left_out == ("t.xlsx, hidden sheet old (the sheet is hidden)",)
    assert read_source(path, TableChoice(sheet="old")).frame["mos"].tolist() == [0, 0, 0]


def test_a_sheet_without_the_columns_does_not_disturb_and_is_reported(tmp_path: Path) -> None:
    notes = pd.DataFrame({"remark": ["scores of May"]})
    source = read_source(write_workbook(tmp_path / "t.xlsx", {"notes": notes, "final": FINAL}))
    assert source.targets == ("mos",)
    (left_out,) = source.report.left_out
    assert left_out.startswith("t.xlsx, sheet notes (it lacks the column")


def test_two_sheets_with_the_columns_are_decided_by_the_user(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "t.xlsx", {"May": OLD, "June": FINAL})
    with pytest.raises(DataError, match="sheet May; t.xlsx, sheet June.*--sheet 'May'"):
        read_source(path)
    source = read_source(path, TableChoice(sheet="June"))
    assert source.frame["mos"].tolist() == FINAL["mos"].tolist()
    assert "sheet May (another table was chosen)" in source.report.left_out[0]


def test_a_workbook_whose_only_table_is_hidden_is_not_read_unasked(tmp_path: Path) -> None:
    notes = pd.DataFrame({"remark": ["old scores are hidden"]})
    path = write_workbook(tmp_path / "t.xlsx", {"notes": notes, "old": OLD}, {"old": "hidden"})
    with pytest.raises(DataError, match="only t.xlsx, hidden sheet old has the columns.*--sheet 'old'"):
        read_source(path)


def test_a_sheet_that_does_not_exist_is_refused_with_the_names_of_those_that_do(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "t.xlsx", {"May": OLD, "June": FINAL})
    with pytest.raises(DataError, match="has no sheet 'Juni': it has 'May', 'June'"):
        read_source(path, TableChoice(sheet="Juni"))


def test_a_name_that_is_a_formula_without_a_value_is_a_problem_of_its_row(tmp_path: Path) -> None:
    frame = table_rows(["a.png", "b.png", "c.png"], prompt=["a fox", '="a "&"cat"', "a dog"])
    for seed, name in enumerate(frame["image"]):
        save_picture(tmp_path / name, seed)
    checked = check(write_workbook(tmp_path / "t.xlsx", {"final": frame}))
    assert [(problem.line, problem.message) for problem in checked.problems] == [
        (3, "prompt is a formula without a stored value: save the workbook in a spreadsheet program")
    ]
