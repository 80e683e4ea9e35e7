"""Open a data set of any form as a stream of rows: the one place that decides which form it has."""

from collections.abc import Sequence
from pathlib import Path

from tier4k.cache.text import first_few
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.find import find_parquet_files
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.rows.arrow import ArrowRows, is_saved_dataset
from tier4k.extract.datasets.rows.files import base_name, expand_braces, list_files, names_files
from tier4k.extract.datasets.rows.parquet import ParquetRows
from tier4k.extract.datasets.rows.source import RowSource
from tier4k.extract.datasets.rows.table import TableRows
from tier4k.extract.datasets.rows.tar import TarRows
from tier4k.extract.datasets.rows.tar_members import COMPRESSED_SUFFIXES, TAR_SUFFIX
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.datasets.tables.find import PARQUET_SUFFIX, TABLE_SUFFIXES, shard_of
from tier4k.extract.images.formats import image_suffixes
from tier4k.extract.images.place_names import is_url

SHOWN_FILES = 5


def open_rows(
    data: Path | str,
    choice: TableChoice,
    needs_prompts: bool,
) -> RowSource:
    """Open a data set as a stream of rows.

    Args:
        data: A tar archive or a folder of them, a table, a data folder, a folder of `save_to_disk`, a URL of
            archives or Parquet tables, or a pattern in braces of their files. A URL must be a text, as a path
            would join its slashes.
        choice: What the user says about a table.
        needs_prompts: Whether a row without a text prompt is a problem, where rows have prompts.

    Raises:
        DataError: The data set as a whole cannot be read.
    """
    stream = open_stream(data, choice, needs_prompts)
    if stream:
        return stream
    path = Path(data)
    is_streamed = choice.images is None and _has_parquet(path)
    if is_streamed and (found := find_parquet_files(path, choice, needs_prompts)):
        files = list(map(str, found.paths))
        return ParquetRows.open(found.path, files, choice, needs_prompts, found.left_out)
    return TableRows(read_source(path, choice, needs_prompts=needs_prompts))


def open_stream(
    data: Path | str,
    choice: TableChoice,
    needs_prompts: bool,
) -> RowSource | None:
    """Open tar archives, a folder of `save_to_disk`, a URL or a pattern of files; return None for other data.

    The other data sets are tables on this machine. The arguments are those of `open_rows`.

    Raises:
        DataError: The data set as a whole cannot be read.
    """
    stream = _stream_of(data, choice, needs_prompts)
    if stream and choice.images:
        raise DataError(
            f"{data} is no table on this machine, whose images --images finds: leave --images out, as names "
            "of images are relative to the file that has them"
        )
    return stream


def _stream_of(
    data: Path | str,
    choice: TableChoice,
    needs_prompts: bool,
) -> RowSource | None:
    text = str(data)
    if names_files(text):
        return _open_files(text, _named_files(text), choice, needs_prompts)
    path = Path(text)
    if choice.layout in (None, "table"):
        if path.is_dir() and is_saved_dataset(path):
            return ArrowRows.open(path, choice, needs_prompts)
        if archives := _archives(path):
            return TarRows.open(path, archives, choice.column_choice, needs_prompts, _others(path, archives))
    return None


def _named_files(text: str) -> list[str]:
    """Return the files that a URL or a pattern names."""
    files = expand_braces(text)
    if len(files) > 1 or _has_suffix(files[0], (TAR_SUFFIX, PARQUET_SUFFIX, *COMPRESSED_SUFFIXES)):
        return files
    if not is_url(text) or _has_suffix(text, TABLE_SUFFIXES):
        raise DataError(
            f"{text} is not read: only .tar archives and .parquet tables are read at URLs and by patterns in "
            "braces; download it, and pass its path"
        )
    return _files_below(text)


def _files_below(url: str) -> list[str]:
    """Return the archives or the shards of the table directly below a URL."""
    files = list_files(url)
    archives = [file for file in files if _has_suffix(file, (TAR_SUFFIX,))]
    tables = [file for file in files if _has_suffix(file, (PARQUET_SUFFIX,))]
    if archives and tables:
        raise DataError(f"{url} has archives and Parquet tables: pass {archives[0]} or {tables[0]}")
    shards = {shard_of(Path(base_name(file))) for file in tables}
    if len(tables) > 1 and (len(shards) > 1 or None in shards):
        raise DataError(
            f"{url} has several tables ({first_few(list(map(base_name, tables)), SHOWN_FILES)}): pass the "
            "one that is meant, or a pattern such as part-{000..099}.parquet"
        )
    if not archives and not tables:
        raise DataError(f"{url} has neither .tar archives nor .parquet tables: pass the URL of their folder")
    return archives or tables


def _open_files(
    data: str,
    files: Sequence[str],
    choice: TableChoice,
    needs_prompts: bool,
) -> RowSource:
    """Open files of one kind, at URLs or by a pattern."""
    if all(_has_suffix(file, (PARQUET_SUFFIX,)) for file in files):
        return ParquetRows.open(data, files, choice, needs_prompts)
    if all(_has_suffix(file, (TAR_SUFFIX, *COMPRESSED_SUFFIXES)) for file in files):
        return TarRows.open(data, files, choice.column_choice, needs_prompts)
    raise DataError(f"{data} names files of several kinds: pass .tar archives, or .parquet tables")


def _archives(path: Path) -> list[str]:
    """Return the archive that a path is, or those in a folder that has neither tables nor images."""
    if path.is_file():
        return [str(path)] if _has_suffix(path.name, (TAR_SUFFIX, *COMPRESSED_SUFFIXES)) else []
    if not path.is_dir():
        return []
    files = list_files(str(path))
    if any(_has_suffix(file, (*TABLE_SUFFIXES, *image_suffixes())) for file in files):
        return []
    return [file for file in files if _has_suffix(file, (TAR_SUFFIX, *COMPRESSED_SUFFIXES))]


def _others(path: Path, archives: Sequence[str]) -> list[str]:
    """Return a sentence about the other files in a folder of archives, if there are some."""
    if path.is_file():
        return []
    others = [base_name(file) for file in list_files(str(path)) if file not in set(archives)]
    return [f"{first_few(others, SHOWN_FILES)} (no archive)"] if others else []


def _has_parquet(path: Path) -> bool:
    files = list_files(str(path)) if path.is_dir() else [path.name]
    return any(_has_suffix(file, (PARQUET_SUFFIX,)) for file in files)


def _has_suffix(file: str, suffixes: Sequence[str]) -> bool:
    return file.lower().endswith(tuple(suffixes))
