"""The table files of a folder, and the shards of one table."""

import re
from dataclasses import dataclass
from pathlib import Path

from tier4k.extract.datasets.tables.clutter import is_clutter

PARQUET_SUFFIX = ".parquet"

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", PARQUET_SUFFIX, ".json", ".jsonl")

SHARD_NAME = re.compile(r"(?P<table>.+)-\d{5}-of-(?P<count>\d{5})")


def is_table(path: Path) -> bool:
    """Return whether the suffix of a path is one of `TABLE_SUFFIXES`."""
    return path.suffix.lower() in TABLE_SUFFIXES


def table_files(folder: Path) -> list[Path]:
    """Return the table files directly in a folder, in the order of their names.

    Raises:
        OSError: The folder cannot be listed.
    """
    return sorted(path for path in folder.iterdir() if is_table(path) and not is_clutter(path))


@dataclass(frozen=True)
class Shard:
    """A file with some rows of a table, as on the Hugging Face hub: train-00000-of-00002.parquet.

    Attributes:
        table: Name of the table, without suffix.
        count: Number of files of the table.
    """

    table: str
    count: int


def shard_of(path: Path) -> Shard | None:
    """Return the shard that a file is, by its name; None if it is a table of its own."""
    found = SHARD_NAME.fullmatch(path.stem)
    return Shard(found["table"], int(found["count"])) if found else None
