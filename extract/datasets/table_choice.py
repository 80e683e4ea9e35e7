"""What a user says about a table: its layout, the meaning of its columns, its sheet, its folder of images."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args

from tier4k.extract.datasets.choices import ColumnField
from tier4k.extract.datasets.errors import DataError

SCORE = "mos"

NEEDED_TO_PREDICT = ("image", "prompt", "image_prompt")  # fields of columns


def canonical_column(column_field: str) -> str:
    """Return the canonical column of a field of `--columns`: an image is known by its name."""
    return "name" if column_field == "image" else column_field


def column_field(canonical: str) -> str:
    """Return the field of `--columns` with a canonical column."""
    return "image" if canonical == "name" else canonical


@dataclass(frozen=True)
class ColumnChoice:
    """The meaning of columns, as `--columns` gives it.

    Attributes:
        of_field: {field: columns}; a table uses the one that it has. No columns: the table has none for the
            field, whatever its names suggest.
        targets: {target: columns}; empty: the score columns are recognised.
        to_predict: Whether a table may lack all columns but those of images and prompts.
    """

    of_field: Mapping[ColumnField, tuple[str, ...]] = field(default_factory=dict)
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    to_predict: bool = False

    def requires(self, name: str) -> bool:
        """Return whether a table must have a column for a field that the choice names."""
        return not self.to_predict or name in NEEDED_TO_PREDICT

    def columns_of_targets(self, present: Collection[str]) -> dict[str, str]:
        """Return {target: its column} for the named targets of which a table has the column."""
        found = {}
        for target, names in self.targets.items():
            if own := [name for name in names if name in present]:
                found[target] = own[0]
        return found

    @classmethod
    def parse(cls, text: str) -> "ColumnChoice":
        """Return the choice of a list such as "image=img_path,prompt=caption,mos=MOS".

        `mos=COLUMN` is a target with the name of its column, `mos.NAME=COLUMN` one with another name. A field
        may have several columns, of which each table has one.

        Raises:
            DataError: The text is no such list.
        """
        of_field: dict[ColumnField, tuple[str, ...]] = {}
        targets: dict[str, tuple[str, ...]] = {}
        for name, column in _pairs(text):
            score, _, target = name.partition(".")
            if score == SCORE:
                target = target or column
                targets[target] = (*targets.get(target, ()), *_present(column))
            elif name in get_args(ColumnField):
                key = cast(ColumnField, name)
                of_field[key] = (*of_field.get(key, ()), *_present(column))
            else:
                fields = ", ".join((*get_args(ColumnField), SCORE))
                raise DataError(f"--columns: there is no field {name!r}: use {fields}")
        return cls(of_field, {name: columns for name, columns in targets.items() if columns})


def _present(column: str) -> tuple[str, ...]:
    return (column,) if column else ()


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return the pairs FIELD=COLUMN; a piece without "=" belongs to the column before it, with its comma."""
    pieces: list[str] = []
    for piece in text.split(","):
        if "=" in piece or not pieces:
            pieces.append(piece)
        else:
            pieces[-1] += f",{piece}"
    pairs = []
    for piece in filter(str.strip, pieces):
        name, equals, column = piece.partition("=")
        if not equals:
            raise DataError(
                f"--columns: {piece.strip()!r} is not of the form FIELD=COLUMN: pass, for example, "
                "image=img_path,prompt=caption,mos=MOS"
            )
        pairs.append((name.strip(), column.strip()))
    return pairs


@dataclass(frozen=True)
class TableChoice:
    """What a user says about a table.

    Attributes:
        layout: Name of a layout; None recognises it.
        columns: Text of `--columns`; "" recognises the columns.
        sheet: Name of a sheet of a workbook; None takes the visible sheet that has the columns.
        images: Folder that relative names of images begin in; None takes that of the layout.
        to_predict: See `ColumnChoice`: images to predict have no ratings.
    """

    layout: str | None = None
    columns: str = ""
    sheet: str | None = None
    images: Path | None = None
    to_predict: bool = False

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "TableChoice":
        """Return the choice of what `given` returned."""
        images = Path(given["images"]) if "images" in given else None
        return cls(given.get("layout"), given.get("columns", ""), given.get("sheet"), images)

    @property
    def given(self) -> dict[str, str]:
        """What was said, by the name of the field; the folder of images as an absolute path."""
        images = str(self.images.absolute()) if self.images else None
        values = {"layout": self.layout, "columns": self.columns, "sheet": self.sheet, "images": images}
        return {name: value for name, value in values.items() if value}

    def folder_of_images(self, usual: Path) -> Path:
        """Return the folder that relative names of images begin in.

        Args:
            usual: The folder where the user names none.

        Raises:
            DataError: There is no such folder.
        """
        if self.images is None:
            return usual
        if not self.images.is_dir():
            raise DataError(f"--images: there is no folder {self.images}: pass the folder of the images")
        return self.images.absolute()

    @property
    def column_choice(self) -> ColumnChoice:
        """The meaning of columns.

        Raises:
            DataError: `columns` is no list of pairs.
        """
        return replace(ColumnChoice.parse(self.columns), to_predict=self.to_predict)


RECOGNISED = TableChoice()
"""The user says nothing: layout, columns, sheet and folder of images are recognised."""
