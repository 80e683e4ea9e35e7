"""Read and check the tables of data sets, and report how they were read."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tier4k.cache.listing import stores
from tier4k.cache.store import FeatureStore
from tier4k.cache.stored_keys import StoredKeys
from tier4k.extract.datasets.check import CheckedDataset, check_tables, raise_for_problems
from tier4k.extract.datasets.choices import OnError
from tier4k.extract.datasets.hashes.cache import HASHES, KeyCache
from tier4k.extract.datasets.hashes.hasher import ImageHasher
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.datasets.rows.source import RowSource
from tier4k.extract.datasets.source import SourceTable
from tier4k.extract.datasets.spellings import spellings_text
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.heads.extraction.reporter import LOG, Reporter

SKIPPED_FILE = "skipped.csv"  # in the features folder

Data = str | Path | Sequence[str | Path]
"""A data set, or several that are joined."""


def listed(data: Data) -> list[str | Path]:
    """Return the data sets as a list."""
    return [data] if isinstance(data, str | Path) else list(data)


def load_manifest(
    data: Data,
    features: str | Path = "features",
    *,
    table: TableChoice = RECOGNISED,
    raters: int | None = None,
    needs_prompts: bool = True,
    on_error: OnError = "stop",
    reporter: Reporter = LOG,
) -> Manifest:
    """Read and check the rows of a data set: its table, and every image.

    Args:
        data: Data folder or table; several are joined, and their scores are aligned.
        features: Folder of stores. Images with features in it are not decoded again. It also contains the
            hashes of images that were read before. It need not exist.
        table: What you say about layout, columns and sheet; they are recognised otherwise.
        raters: Number of ratings of every score; None takes it from a column, if there is one.
        needs_prompts: Whether a row without a text prompt is a problem, where there is a column of prompts.
        on_error: What happens to rows with problems: "stop" raises, "skip" leaves them out, warns, and lists
            them in skipped.csv of the features folder.
        reporter: Receives what was recognised and left out; by default Python's logger "tier4k".

    Returns:
        The usable rows: `manifest.table` is a DataFrame of them, `manifest.targets` has the names of the
        scores.

    Raises:
        DataError: A table cannot be used, a row has a problem and `on_error` is "stop", or no row is left.
    """
    sources = [read_source(Path(path), table, raters, needs_prompts) for path in listed(data)]
    return check_sources(sources, Path(features), on_error, reporter).manifest


def check_sources(
    sources: Sequence[SourceTable],
    features: Path,
    on_error: OnError,
    reporter: Reporter,
    only_store: FeatureStore | None = None,
) -> CheckedDataset:
    """Check data sets whose tables have been read, and report how they were read.

    Args:
        sources: Table of each data set.
        features: Folder of stores; images in them are not decoded again.
        on_error: Whether rows with problems are an error or are skipped.
        reporter: Receives what was recognised and left out.
        only_store: The only store in which images are looked up; None for all stores.

    Raises:
        DataError: The data set cannot be used.
    """
    report_reading(sources, reporter)
    known = StoredKeys([only_store] if only_store else stores(features))
    # The folder is not made here: a misspelt one is reported later.
    hasher = ImageHasher(KeyCache(features / HASHES if features.is_dir() else None))
    with reporter.counting("check images") as count:
        report = raise_for_problems(check_tables(sources, known, count, hasher=hasher), on_error)
    if report.problems:
        list_skipped(features, report.write_problems, report.skipped, report.rows, reporter)
    if report.merged_generators:
        reporter.warned(f"Spellings of one generator: {spellings_text(report.merged_generators)}")
    return report


def list_skipped(
    features: Path,
    write_problems: Callable[[Path], None],
    skipped: int,
    rows: int,
    reporter: Reporter,
) -> None:
    """Write the problems of skipped rows into `skipped.csv` of the features folder, and report their number.

    Raises:
        StoreError: The file cannot be written.
    """
    listing = features / SKIPPED_FILE
    write_problems(listing)
    reporter.warned(f"Skipped {skipped:,} of {rows:,} rows, because they have problems; {listing} lists them")


def report_reading(sources: Sequence[SourceTable | RowSource], reporter: Reporter) -> None:
    """Report what was recognised, left out or not used when tables were read."""
    for source in sources:
        table = f"{source.path}: " if len(sources) > 1 else ""
        if recognition := source.report.recognition:
            reporter.noted(f"{table}{recognition}")
        for line in source.report.lines():
            reporter.warned(f"{table}{line}")
