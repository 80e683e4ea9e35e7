"""The files of a streamed data set: in a folder, at URLs, or by a pattern such as `{000..099}.tar`."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tier4k.cache.text import shown
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.locate import Locator
from tier4k.extract.datasets.tables.clutter import is_clutter, is_clutter_name
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.place_names import is_url, parse_parquet_place, parse_slice_place
from tier4k.extract.images.urls import list_url

_BRACES = re.compile(r"\{(?P<first>[0-9]+)\.\.(?P<last>[0-9]+)\}|\{(?P<words>[^{}]*,[^{}]*)\}")


def expand_braces(pattern: str) -> list[str]:
    """Return the texts of a pattern as a shell writes them: `{08..10}` counts, `{a,b}` lists."""
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    words = (
        found["words"].split(",") if found["words"] is not None else _counted(found["first"], found["last"])
    )
    rest = expand_braces(pattern[found.end() :])
    return [f"{pattern[: found.start()]}{word}{end}" for word in words for end in rest]


def _counted(first: str, last: str) -> list[str]:
    padded = any(len(text) > 1 and text.startswith("0") for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    step = 1 if int(first) <= int(last) else -1
    return [str(number).zfill(width) for number in range(int(first), int(last) + step, step)]


def list_files(folder: str) -> list[str]:
    """Return the files directly in a folder, in the order of their names, without hidden ones.

    Args:
        folder: Path or URL.

    Raises:
        DataError: The folder cannot be listed.
    """
    if is_url(folder):
        try:
            files = list_url(folder)
        except ImageError as error:
            raise DataError(f"{folder} cannot be listed: {error}") from error
        return [file for file in files if not is_clutter_name(base_name(file))]
    try:
        entries = sorted(Path(folder).iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be opened: {error.strerror or error}") from error
    return [str(entry) for entry in entries if not is_clutter(entry) and not entry.is_dir()]


def base_name(file: str) -> str:
    """Return the last step of a path or URL."""
    return file.rstrip("/").rpartition("/")[2]


def file_label(file: str, files: Sequence[str]) -> str:
    """Return the name of a file in the column `file` of its rows; "" for the only file of a data set."""
    return shown(base_name(file)) if len(files) > 1 else ""


def names_files(data: Path | str) -> bool:
    """Return whether a data set is given as a URL or as a pattern of files."""
    return is_url(str(data)) or ("{" in str(data) and not Path(data).exists())


def read_failure(error: Exception) -> str:
    """Return on one line why a file cannot be read."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())


def parent(file: str) -> str:
    """Return the folder of a file: the absolute path, or the URL."""
    return file.rpartition("/")[0] if is_url(file) else str(Path(file).absolute().parent)


def whole_path(file: str) -> str:
    """Return the absolute path of a file, or its URL."""
    return file if is_url(file) else str(Path(file).absolute())


def data_folder(data: Path | str, files: Sequence[str]) -> Path:
    """Return the folder of a data set, which may hold weights; the working directory for a URL.

    Args:
        data: The data set as the user named it.
        files: Its files.
    """
    if is_url(str(data)):
        return Path.cwd()
    return Path(data) if Path(data).is_dir() else Path(files[0]).parent


def data_path(data: Path | str) -> Path | str:
    """Return a data set as a path, but a URL as a text: a path would join its slashes."""
    return data if is_url(str(data)) else Path(data)


def data_name(data: Path | str, files: Sequence[str]) -> str:
    """Return the name of a data set: that of its only file or of its folder.

    Args:
        data: The data set as the user named it.
        files: Its files.
    """
    if len(files) == 1 and not Path(data).is_dir():
        return base_name(files[0]).rpartition(".")[0]
    if is_url(files[0]):
        return base_name(parent(files[0]))
    return Path(files[0]).absolute().parent.name


def why_missing(place: str, folder: Path) -> str:
    """Return why there is no file or object at a place, with the nearest file if there is one.

    Args:
        place: The place of an image.
        folder: The data folder.
    """
    row, part = parse_parquet_place(place), parse_slice_place(place)
    file = row.table if row else part.file if part else place
    return _locator(folder).problem(file)


@lru_cache(maxsize=4)
def _locator(folder: Path) -> Locator:
    """Return a locator that is kept, so that folders are listed once, however many images are missing."""
    return Locator(folder)
