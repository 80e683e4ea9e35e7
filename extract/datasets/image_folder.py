"""A folder of images without a table, each with its prompt in a text file beside it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tier4k.cache.text import first_few
from tier4k.extract.datasets.columns import find_columns
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.installed import all_layouts
from tier4k.extract.datasets.layouts.layout import Layout
from tier4k.extract.datasets.prompt_files import prompt_file
from tier4k.extract.datasets.source import TableReport
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.extract.datasets.tables.clutter import is_clutter
from tier4k.extract.datasets.tables.find import table_files
from tier4k.extract.datasets.tables.read import part_headers
from tier4k.extract.images.formats import image_suffixes

SHOWN_NAMES = 5


@dataclass(frozen=True)
class ImageFolder:
    """The content of a folder that may hold images without a table.

    Attributes:
        path: The folder.
        images: Files with the suffix of an image.
        tables: Files with the suffix of a table.
        others: Names of other files that are no clutter.
        folders: Names of the folders inside.
    """

    path: Path
    images: tuple[Path, ...]
    tables: tuple[Path, ...]
    others: tuple[str, ...]
    folders: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "ImageFolder":
        """List a folder.

        Raises:
            DataError: The system refuses.
        """
        try:
            tables = table_files(path)
            entries = sorted(entry for entry in path.iterdir() if not is_clutter(entry))
        except OSError as error:
            raise DataError(f"{path} cannot be opened: {error.strerror or error}") from error
        folders = [entry.name for entry in entries if entry.is_dir()]
        files = [entry for entry in entries if not entry.is_dir()]
        images = [file for file in files if file.suffix.lower() in image_suffixes()]
        prompts = {prompt_file(image) for image in images}
        known = {*images, *tables, *prompts}
        others = [file.name for file in files if file not in known]
        return cls(path, tuple(images), tuple(tables), tuple(others), tuple(folders))

    def is_meant(self, choice: TableChoice) -> bool:
        """Return whether the images directly in the folder are meant, and no table names them.

        Args:
            choice: What the user says about a table; whoever says something means a table.
        """
        if choice != RECOGNISED or any(self._has(layout) for layout in all_layouts().values()):
            return False
        if None in self._why_no_images.values():
            return False
        return bool(self.images) or not self.tables

    def _has(self, layout: Layout) -> bool:
        """Return whether the folder is a published data set by its files, whose columns are not asked."""
        if layout.is_in and layout.is_in(self.path):
            return True
        files = [self.path / name for name in layout.files]
        return any(file.is_file() and file not in self.tables for file in files)

    @cached_property
    def _why_no_images(self) -> dict[Path, str | None]:
        return {table: _why_no_images(table) for table in self.tables}

    def report(self) -> TableReport:
        """Return what is not read in this folder of images."""
        left_out = [f"{table.name} ({reason})" for table, reason in self._why_no_images.items()]
        if self.others:
            left_out.append(f"{first_few(self.others, SHOWN_NAMES)} (neither an image nor the prompt of one)")
        if self.folders:
            left_out.append(
                f"{first_few(self.folders, SHOWN_NAMES)} (only images directly in {self.path} are scored)"
            )
        return TableReport(left_out=tuple(left_out))


def _why_no_images(table: Path) -> str | None:
    """Return why a table is no table of images; None if it is one, or nearly one."""
    try:
        headers = part_headers(table)
    except DataError as error:
        return f"it cannot be read: {error}"
    for header in headers:
        for layout in all_layouts().values():
            try:
                found = find_columns(layout, header.columns, RECOGNISED.column_choice)
            except DataError:  # two columns of images
                return None
            is_generic = not layout.targets
            if not found.missing or (is_generic and "name" in found.of):
                return None
    return "it has no column of images"
