"""Whatever table a user has: it is read with all its rows, or refused in one paragraph."""

import math
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from tier4k import cli
from tier4k.cache.errors import TierError
from tier4k.extract.datasets.check import check_tables
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.rows.table import TableRows
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.tests.builders.any_tables import (
    IMAGE_KIND,
    IMAGES,
    MARKS,
    NUMBER_KINDS,
    ODD_KINDS,
    OTHER_KIND,
    PROMPT_KIND,
    Column,
    TextForm,
    WrittenPart,
    fill_sheet,
    make_cells,
    write_json_table,
    write_parquet_table,
    write_text_table,
)

EXAMPLES = 2000

COMMANDS = 10  # examples that are also given to the command

IMAGE_NAMES = ("image", "image", "image", "img_path", "Image ", "filename", "picture")

PROMPT_NAMES = ("prompt", "prompt", "caption", "Prompt", "text", "promt")

SCORE_NAMES = (
    "mos",
    "MOS_q",
    "score, overall",
    "qualité",
    "std_mos",
    "width",
    "raters",
    "row",
    "2024",
    "",
    "mos ",
    "a=b",
)

OTHER_NAMES = ("tags", "group", "split", "dataset", "generator", "Unnamed: 0", "name")

SUFFIXES = (".csv", ".csv", ".tsv", ".xlsx", ".parquet", ".json", ".jsonl")


@dataclass(frozen=True)
class Sheet:
    """A table that is to be written."""

    name: str
    columns: tuple[Column, ...]
    rows: int
    is_hidden: bool


@dataclass(frozen=True)
class Case:
    """Files that are to be written, and what the user says about them."""

    suffix: str
    sheets: tuple[Sheet, ...]
    form: TextForm
    image_form: str
    blank_share: float
    is_folder: bool
    has_clutter: bool
    has_second_file: bool
    is_damaged: bool
    choice: TableChoice
    seed: int


KINDS = st.sampled_from([*NUMBER_KINDS, *NUMBER_KINDS, *ODD_KINDS])

SCORES = st.lists(st.builds(Column, st.sampled_from(SCORE_NAMES), KINDS), max_size=3)

OTHERS = st.lists(st.builds(Column, st.sampled_from(OTHER_NAMES), st.just(OTHER_KIND)), max_size=2)


def rarely(draw: st.DrawFn, others: int) -> bool:
    """Draw True once for so many times False."""
    return draw(st.integers(0, others)) == others


@st.composite
def columns(draw: st.DrawFn) -> tuple[Column, ...]:
    """Columns, mostly with images, prompts and the score `mos`."""
    chosen = [*draw(SCORES), *draw(OTHERS)]
    if not rarely(draw, 19):
        chosen.append(Column(draw(st.sampled_from(IMAGE_NAMES)), IMAGE_KIND))
    if not rarely(draw, 5):
        chosen.append(Column(draw(st.sampled_from(PROMPT_NAMES)), PROMPT_KIND))
    if not rarely(draw, 5):
        chosen.append(Column("mos", draw(KINDS)))
    if not rarely(draw, 3):  # else columns may have one name
        chosen = list({column.name.strip().lower(): column for column in chosen}.values())
    return tuple(draw(st.permutations(chosen))) if chosen else (Column("image", IMAGE_KIND),)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    suffix = draw(st.sampled_from(SUFFIXES))
    form = TextForm(
        separator=draw(st.sampled_from((",", ",", ";", "\t"))),
        encoding=draw(st.sampled_from(["utf-8"] * 3 + list(MARKS))),
        end=draw(st.sampled_from(("\n", "\n", "\r\n"))),
        has_quotes=not rarely(draw, 4),
        cuts_rows=draw(st.booleans()),
    )
    if rarely(draw, 9):
        form = replace(form, surplus=form.separator * draw(st.integers(1, 2)), cuts_rows=False)
    names = draw(st.permutations(("final", "old (1)", "Blatt, 2"))) if suffix == ".xlsx" else ("",)
    sheets = []
    for name in names[: draw(st.sampled_from((1, 1, 2, 3)))]:
        is_hidden = bool(sheets) and draw(st.booleans())
        sheets.append(Sheet(name, draw(columns()), draw(st.sampled_from((1, 2, 3, 5, 8, 8, 0))), is_hidden))
    return Case(
        suffix=suffix,
        sheets=tuple(sheets),
        form=form,
        image_form=draw(st.sampled_from(("path", "struct", "bytes"))),
        blank_share=draw(st.sampled_from((0, 0, 0.3))),
        is_folder=draw(st.booleans()),
        has_clutter=draw(st.booleans()),
        has_second_file=rarely(draw, 5),
        is_damaged=rarely(draw, 9),
        choice=draw(choices(tuple(sheet.name for sheet in sheets))),
        seed=draw(st.integers(0, 2**32)),
    )


@st.composite
def choices(draw: st.DrawFn, names: tuple[str, ...]) -> TableChoice:
    """Mostly nothing, or what may be right."""
    columns, sheet = "", None
    if rarely(draw, 3):
        columns = draw(st.sampled_from(("image=image,mos=mos", "prompt=", "image=picture", "mos=row", "x")))
    if names[0] and rarely(draw, 2):
        sheet = draw(st.sampled_from((*names, "nowhere")))
    return TableChoice(draw(st.sampled_from((None, None, None, "table"))), columns, sheet)


def write(folder: Path, case: Case, images: list[bytes]) -> tuple[Path, list[WrittenPart]]:
    """Write the files of a case. Returns DATA and what the parts of its tables contain."""
    for path in folder.iterdir():
        path.unlink()
    source = random.Random(case.seed)
    path = folder / f"t{case.suffix}"
    parts = write_table(path, case, images, source)
    if case.is_damaged:
        content = bytearray(path.read_bytes())
        position = source.randrange(len(content) + 1)
        content[position : position + source.randrange(4)] = bytes(source.sample(range(256), 3))
        path.write_bytes(content)
        parts = [WrittenPart(part.label, None) for part in parts]
    if case.is_folder and case.has_clutter:
        for name in ("~$t.xlsx", "._t.csv", ".DS_Store", "Thumbs.db"):
            (folder / name).write_bytes(b"\0\x05\x16\x07")
    if case.is_folder and case.has_second_file:
        (folder / "results.json").write_text('{"srcc": 0.5}')
        (folder / "notes.csv").write_text("step,loss\n1,0.5\n2,0.25\n")
        parts.append(WrittenPart("notes.csv", 2, {"step": [1, 2], "loss": [0.5, 0.25]}))
    return folder if case.is_folder else path, parts


def write_table(
    path: Path,
    case: Case,
    images: list[bytes],
    source: random.Random,
) -> list[WrittenPart]:
    parts = []
    book = openpyxl.Workbook()
    book.remove(book.active)
    for sheet in case.sheets:
        cells, numbers = make_cells(sheet.columns, sheet.rows, case.blank_share, source)
        header = [column.name for column in sheet.columns]
        filled = sum(map(any, cells))
        label = path.name
        if case.suffix == ".xlsx":
            fill_sheet(book, sheet.name, header, cells, sheet.columns)
            book[sheet.name].sheet_state = "hidden" if sheet.is_hidden else "visible"
            label = f"{path.name}, {'hidden ' if sheet.is_hidden else ''}sheet {sheet.name}"
        elif case.suffix == ".parquet":
            write_parquet_table(path, header, cells, sheet.columns, case.image_form, images)
            filled, numbers = len(cells), numbers if filled == len(cells) else {}
        elif case.suffix.startswith(".json"):
            write_json_table(path, header, cells, sheet.columns, case.form)
            if case.suffix == ".json":
                filled, numbers = len(cells), numbers if filled == len(cells) else {}
        else:
            lines = write_text_table(path, header, cells, case.form)
            if lines is not None or case.form.surplus:
                filled, numbers = filled if lines is None else lines, {}
        parts.append(WrittenPart(label, filled, numbers))
    if case.suffix == ".xlsx":
        book.save(path)
    return parts


def require_paragraph(message: str) -> None:
    assert message.strip()
    assert "\n\n" not in message
    for raw in ("Error tokenizing", "Traceback", "PNG\\r", "IHDR"):
        assert raw not in message


def require_all_rows(data: Path, choice: TableChoice, parts: list[WrittenPart]) -> None:
    """Read a table and compare it with what was written.

    Raises:
        TierError: It cannot be read.
    """
    source = read_source(data, choice)
    checked = check_tables([source])
    unread = [
        part for part in parts if any(line.startswith(f"{part.label} (") for line in source.report.left_out)
    ]
    (read,) = [part for part in parts if part not in unread]  # all others are reported
    skipped = {problem.row for problem in checked.problems}
    assert len(checked.manifest) + len(skipped) == checked.rows == len(source.frame)
    if checked.problems:
        require_paragraph(str(checked.error()))
    if read.rows is None:
        return
    assert checked.rows == read.rows
    report = source.report
    known = {*source.targets, *report.unused, *report.columns.values(), "raters", "std_mos", ""}
    assert choice.columns or {name.strip() for name in read.numbers} <= known
    table = checked.manifest.table
    for target in source.targets:
        for row, score in zip(table["row"], table[target], strict=True):
            if target in read.numbers:
                assert math.isclose(score, read.numbers[target][row])


@pytest.mark.slow
def test_a_table_is_read_with_all_rows_or_refused_in_one_paragraph(tmp_path: Path) -> None:
    images = []
    (tmp_path / "img").mkdir()
    for number in range(IMAGES):
        path = tmp_path / "img" / f"p{number}.png"
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(path)
        images.append(path.read_bytes())
    folder = tmp_path / "data"
    folder.mkdir()
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def run(case: Case) -> None:
        data, parts = write(folder, case, images)
        try:
            require_all_rows(data, case.choice, parts)
            outcomes[f"read {case.suffix}"] += 1
        except TierError as error:
            require_paragraph(str(error))
            outcomes["refused"] += 1
        outcomes["all"] += 1
        if outcomes["all"] % (EXAMPLES // COMMANDS) == 0:
            require_exit_code(data)

    run()
    assert outcomes["refused"] > EXAMPLES / 20
    for suffix in SUFFIXES:
        assert outcomes[f"read {suffix}"] > EXAMPLES / 50


def require_exit_code(data: Path) -> None:
    result = CliRunner().invoke(cli.app, ["data", "check", str(data)])
    assert result.exit_code in (0, 2), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output


def test_a_name_with_half_a_character_is_a_missing_image(tmp_path: Path) -> None:
    """JSON can write half of a character; no file has such a name."""
    (tmp_path / "t.jsonl").write_text('{"image": "\\ud800.png", "mos": 1}\n{"image": "b.png", "mos": 2}\n')
    (batch,) = TableRows(read_source(tmp_path / "t.jsonl")).batches()
    assert batch.rows["image"].to_pylist() == [
        f"{tmp_path}/\\ud800.png".encode(),
        f"{tmp_path}/b.png".encode(),
    ]
