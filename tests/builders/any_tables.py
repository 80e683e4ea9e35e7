"""Writes tables of every kind that users have, and knows what is in them without the product's readers."""

import codecs
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

IMAGES = 8

NO_IMAGES = (
    "missing.png",
    "P0.PNG",
    "img\\p0.png",
    "é.png",
    "a\ud800.png",
    "a\x1fb",
    "x" * 300,
    "",
    "7",
    ".",
    "n/a",
)

TEXTS = (
    "a fox",
    "a fox, red",
    'a "sign"',
    '"Stop" sign',
    'a "fox',
    '"a fox',
    "狐; fox",
    "a\tfox",
    "=1+1",
    "007",
    "",
    " ",
)

MARKS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-be": codecs.BOM_UTF32_BE,
    "latin-1": b"",
}

_ENCODING_ERRORS = dict.fromkeys(MARKS, "surrogatepass") | {"latin-1": "replace"}

IMAGE_KIND, PROMPT_KIND, OTHER_KIND = "image", "prompt", "other"

# Kinds of score columns whose numbers a reader must find, and of others.
NUMBER_KINDS = ("points", "integers", "commas", "per cent")
ODD_KINDS = ("mixed", "words", "empty", "flags", "formulas", "huge", "few")


@dataclass(frozen=True)
class Column:
    """The name of a column and the kind of its cells."""

    name: str
    kind: str


@dataclass
class WrittenPart:
    """What a file, or a sheet of it, contains.

    Attributes:
        label: Its name in messages.
        rows: Number of rows with a filled cell; None if nobody can tell.
        numbers: {column: numbers of these rows}, for columns of `NUMBER_KINDS`.
    """

    label: str
    rows: int | None
    numbers: dict[str, list[float]] = field(default_factory=dict)


def make_cells(
    columns: Sequence[Column],
    rows: int,
    blank_share: float,
    source: random.Random,
) -> tuple[list[list[str]], dict[str, list[float]]]:
    """Make rows of texts and the numbers in them. A blank row has empty texts only."""
    cells, numbers = [], {column.name: [] for column in columns if column.kind in NUMBER_KINDS}
    for number in range(rows):
        if source.random() < blank_share:
            cells.append([""] * len(columns))
            continue
        row = []
        for column in columns:
            text, value = make_cell(column.kind, number, source)
            row.append(text)
            if value is not None:
                numbers[column.name].append(value)
        if not any(row):  # not meant as blank; "few" are numbers also in files that have types
            row[0] = "7" if columns[0].kind == "few" else "x"
        cells.append(row)
    return cells, numbers


def make_cell(
    kind: str,
    row: int,
    source: random.Random,
) -> tuple[str, float | None]:
    """Return the text of a cell, and its number if the column is one of numbers."""
    whole, tenths = source.randrange(1, 99), source.randrange(10)
    if kind == IMAGE_KIND:
        return (source.choice(NO_IMAGES) if source.random() < 0.2 else f"../img/p{row % IMAGES}.png"), None
    if kind == PROMPT_KIND:
        return source.choice(TEXTS), None
    texts = {
        "points": f"{whole}.{tenths}",
        "integers": str(whole),
        "commas": f"{whole},{tenths}",
        "per cent": source.choice((f"{whole} %", f"{whole}.{tenths}%")),
        "mixed": source.choice((f"{whole}.{tenths}", f"{whole},{tenths}", f"{whole}%", "bad", "n/a", "")),
        "words": source.choice(("good", "bad", str(whole))),
        "empty": "",
        "flags": source.choice(("True", "False")),
        "formulas": f"=A{row + 2}",
        "huge": source.choice(("1e400", "1" * 400, "-inf", "1e-200")),
        "few": str(whole) if source.random() < 0.1 else "",
        OTHER_KIND: source.choice(("x", "", "2026-01-02", "[1]")),
    }
    text = texts[kind]
    if kind not in NUMBER_KINDS:
        return text, None
    return text, float(text.rstrip(" %").replace(",", "."))


@dataclass(frozen=True)
class TextForm:
    """How a table of text is written."""

    separator: str = ","
    encoding: str = "utf-8"
    end: str = "\n"
    has_quotes: bool = True
    surplus: str = ""
    cuts_rows: bool = False


def write_text_table(
    path: Path,
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    form: TextForm,
) -> int | None:
    """Write a table of text.

    Returns:
        If its form has no quotes the number of its rows: one for each line that is not blank.
    """
    lines = [form.separator.join(_quoted(text, form) for text in header)]
    for row in cells:
        texts = [_quoted(text, form) for text in row]
        while form.cuts_rows and texts and not texts[-1]:
            texts.pop()
        lines.append(form.separator.join(texts) + (form.surplus if any(row) else ""))
    content = form.end.join(lines) + form.end
    path.write_bytes(MARKS[form.encoding] + content.encode(form.encoding, _ENCODING_ERRORS[form.encoding]))
    if form.has_quotes:
        return None
    return sum(bool(line.strip(f'{form.separator}"')) for line in lines) - 1


def _quoted(text: str, form: TextForm) -> str:
    needs_quotes = any(mark in text for mark in (form.separator, '"', "\n", "\r"))
    if not form.has_quotes or not needs_quotes:
        return text
    return '"' + text.replace('"', '""') + '"'


def fill_sheet(
    book: openpyxl.Workbook,
    name: str,
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    columns: Sequence[Column],
) -> None:
    """Add a sheet; numbers with decimal points are numbers."""
    sheet = book.create_sheet(name)
    for number, row in enumerate([header, *cells], start=1):
        for position, text in enumerate(row, start=1):
            kind = columns[position - 1].kind
            value = _typed(text, kind) if number > 1 else text
            if value != "" and value is not None:
                cell = sheet.cell(number, position)
                if isinstance(value, str) and kind != "formulas":
                    cell.value = ILLEGAL_CHARACTERS_RE.sub("", value).replace("\ud800", "")
                    cell.data_type = "s"  # also that of a text which begins with "="
                else:
                    cell.value = value


def _typed(text: str, kind: str) -> object:
    """Return the value of a text in a file that has types."""
    if not text:
        return None
    if kind in ("points", "integers", "few"):
        return float(text) if "." in text else int(text)
    if kind == "flags":
        return text == "True"
    return text


def write_json_table(
    path: Path,
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    columns: Sequence[Column],
    form: TextForm,
) -> None:
    """Write a list of objects, or one object a line; a row of empty texts is then a blank line."""
    kinds = [column.kind for column in columns]
    objects = []
    for row in cells:
        pairs = [
            f"{json.dumps(name)}: {json.dumps(_json_value(text, kind))}"
            for name, text, kind in zip(header, row, kinds, strict=True)
        ]
        is_blank_line = path.suffix == ".jsonl" and not any(row)
        objects.append("" if is_blank_line else f"{{{', '.join(pairs)}}}")
    content = form.end.join(objects) if path.suffix == ".jsonl" else f"[{', '.join(objects)}]"
    path.write_bytes(MARKS[form.encoding] + content.encode(form.encoding, _ENCODING_ERRORS[form.encoding]))


def _json_value(text: str, kind: str) -> object:
    return {"nested": [text, 1]} if kind == OTHER_KIND and text == "[1]" else _typed(text, kind)


def write_parquet_table(
    path: Path,
    header: Sequence[str],
    cells: Sequence[Sequence[str]],
    columns: Sequence[Column],
    image_form: str,
    images: Sequence[bytes],
) -> None:
    """Write a Parquet table. Images are paths, structs of bytes and path, or bytes; prompts are categories.

    Args:
        path: The file.
        header: Names of the columns.
        cells: Texts of the rows.
        columns: Kinds of the columns.
        image_form: "path", "struct" or "bytes".
        images: Bytes of images, used in turn.
    """
    arrays = []
    for position, column in enumerate(columns):
        texts = [row[position].encode("utf-8", "replace").decode() for row in cells]
        values = [_typed(text, column.kind) for text in texts]
        if column.kind == IMAGE_KIND and image_form != "path":
            stored = [images[row % len(images)] if text else None for row, text in enumerate(texts)]
            if image_form == "bytes":
                arrays.append(pa.array(stored, pa.binary()))
            else:
                structs = [
                    {"bytes": content, "path": text} for content, text in zip(stored, texts, strict=True)
                ]
                arrays.append(pa.array(structs, pa.struct({"bytes": pa.binary(), "path": pa.string()})))
        elif column.kind == PROMPT_KIND:
            arrays.append(pa.array(values, pa.string()).dictionary_encode())
        elif column.kind == OTHER_KIND:
            arrays.append(pa.array([[1, 2] if text else None for text in texts], pa.list_(pa.int64())))
        elif column.kind in ("points", "few"):
            arrays.append(
                pa.array([None if value is None else float(value) for value in values], pa.float64())
            )
        elif column.kind == "integers":
            arrays.append(pa.array(values, pa.int64()))
        elif column.kind == "flags":
            arrays.append(pa.array(values, pa.bool_()))
        else:
            arrays.append(pa.array(values, pa.string()))
    pq.write_table(pa.Table.from_arrays(arrays, list(header)), path, row_group_size=2)
