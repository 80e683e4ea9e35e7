"""What a layout is: the form in which the authors of a data set publish it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.tables.part import TablePart


def folder_of_table(root: Path, _names: pd.Series) -> Path:
    """Return the data folder itself."""
    return root


@dataclass(frozen=True)
class Layout:
    """The files, folders and column names of one family of data sets.

    Attributes:
        name: Value of --layout.
        columns: {canonical column: column of the table}, all required. The canonical columns are name (of the
            image), prompt, image_prompt, generator, group and dataset.
        image_folder: Finds the folder that the names of images are relative to, given the data folder and
            the names.
        optional: {canonical column: column of the table} for columns that may be absent.
        common_names: {canonical column: other names that users give it}; a column is recognised by such a
            name, in any case, if no column has the layout's own name.
        targets: Required score columns; empty means every numeric column that has no other meaning.
        image_prompt_folder: The folder that `image_prompt` is relative to, relative to the data folder.
        named_by_folder: Whether the data set has the name of its folder rather than of its table.
        files: Paths of the table relative to the data folder; the first that exists is the table.
        not_scores: {column that looks like a score: why it is none}.
        is_in: Whether DATA, a folder or a table, has the layout; None if the table says so by its columns.
        read_parts: Reads the parts of the table from DATA; None if it is in an ordinary file.
        package: Name and version of the package that the layout is of; "" for tier4k.
    """

    name: str
    columns: dict[str, str]
    image_folder: Callable[[Path, pd.Series], Path] = folder_of_table
    optional: dict[str, str] = field(default_factory=dict)
    common_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    image_prompt_folder: str = "."
    named_by_folder: bool = True
    files: tuple[str, ...] = ()
    not_scores: dict[str, str] = field(default_factory=dict)
    is_in: Callable[[Path], bool] | None = None
    read_parts: Callable[[Path], Sequence[TablePart]] | None = None
    package: str = ""

    def with_optional(self, column: str) -> "Layout":
        """Return the layout with a required canonical column as one that may be absent."""
        if column not in self.columns:
            return self
        columns = dict(self.columns)
        optional = {column: columns.pop(column)}
        return replace(self, columns=columns, optional=self.optional | optional)
