"""The image files and URLs that the cells of a table name, and the nearest files where there is none."""

import os
import unicodedata
from functools import cache
from pathlib import Path

from tier4k.extract.images.place_names import is_url, parse_parquet_place


class Locator:
    """Finds the files that cells name. Links are followed: hubs and version control keep images behind them.

    Args:
        folder: Folder that relative paths begin in.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files_of = cache(_files_by_spelling)
        self._folders_of = cache(_folders_by_spelling)

    def place(self, name: str) -> str | None:
        """Return the place of the image that a cell names; None if there is no such file.

        Whether a table has the named row, or a server the named object, is found out when the image is read.
        """
        if is_url(name):
            return name
        path = self._folder / name
        if parse_parquet_place(str(path)):
            return str(path)
        try:
            return str(path) if path.is_file() else None
        except (OSError, ValueError):  # a name too long for the system, or with a null character
            return None

    def problem(self, name: str) -> str:
        """Return why a cell names no file, with the nearest file that exists."""
        if "\0" in name:
            return f"{name!r} is no name of a file"
        if is_url(name):
            return f"there is no object {name}"
        path = self._folder / name
        # The functions of os.path take names that are too long for the system.
        if os.path.islink(path) and not os.path.exists(path):
            return f"there is no file {path}: it is a link to {path.readlink()}, which does not exist"
        if os.path.exists(path):
            kind = "a folder" if path.is_dir() else "no regular file"
            return f"{path} is {kind}: name the file of an image"
        nearest = self._nearest(name)
        return f"there is no file {path}{_hint(nearest, path)}"

    def _nearest(self, name: str) -> Path | None:
        """Return the file whose path differs in case, Unicode form, slashes or suffix only."""
        spelled = Path(name.replace("\\", "/"))
        inner = Path(spelled.anchor) if spelled.is_absolute() else self._folder
        steps = spelled.parts[1:] if spelled.is_absolute() else spelled.parts
        if not steps:  # the name of a folder, such as "."
            return None
        *folders, file = steps
        for folder in folders:
            found = self._folders_of(inner).get(_spelling(folder))
            if found is None:
                return None
            inner = inner / found
        files = self._files_of(inner)
        found = files.get(_spelling(file)) or files.get(_spelling(Path(file).stem))
        return inner / found if found else None


def _hint(nearest: Path | None, path: Path) -> str:
    """Return the nearest file as the end of a message; names that look the same need an explanation."""
    if nearest is None:
        return ""
    looks_equal = unicodedata.normalize("NFC", str(nearest)) == unicodedata.normalize("NFC", str(path))
    form = ", in another Unicode form, NFC or NFD" if looks_equal else ""
    return f" (nearest: {nearest}{form})"


def _spelling(name: str) -> str:
    """Return a text that is equal for names that differ in case and Unicode form only."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _files_by_spelling(folder: Path) -> dict[str, str]:
    """Return {spelling of a name, with and without its suffix: name} for the files of a folder."""
    names = _names(folder)
    by_stem = {_spelling(Path(name).stem): name for name in reversed(names)}
    return by_stem | {_spelling(name): name for name in reversed(names)}


def _folders_by_spelling(folder: Path) -> dict[str, str]:
    """Return {spelling of a name: name} for the folders in a folder, and for the steps "." and ".."."""
    return {".": ".", "..": ".."} | {_spelling(name): name for name in reversed(_names(folder))}


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError):
        return []
