"""The text of a table file."""

from pathlib import Path

from tier4k.cache.text import read_text
from tier4k.extract.datasets.errors import DataError


def table_text(path: Path) -> str:
    """Return the text of a table file, with the ends of lines as they are.

    Raises:
        DataError: The file is not in Unicode.
        OSError: The file cannot be read.
    """
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {error.encoding.upper()} ({error.reason} at byte {error.start}): save the table "
            "as UTF-8"
        ) from error
