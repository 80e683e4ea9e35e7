"""The table files of a folder."""

import re
from pathlib import Path

from tier4k.extract.datasets.tables.clutter import is_clutter

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet", ".json", ".jsonl")

SHARD = re.compile(r"(?P<table>.+)-\d{5}-of-(?P<count>\d{5})")
"""Name of a file that holds some rows of a table, as on the Hugging Face hub."""


def is_table(path: Path) -> bool:
    """Return whether the suffix of a path is one of `TABLE_SUFFIXES`."""
    return path.suffix.lower() in TABLE_SUFFIXES


def table_files(folder: Path) -> list[Path]:
    """Return the table files directly in a folder, in the order of their names.

    Raises:
        OSError: The folder cannot be listed.
    """
    return sorted(path for path in folder.iterdir() if is_table(path) and not is_clutter(path))
