"""Load data sets and stores in a command: check rows, show the progress, and print how many are skipped."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import OnError
from tier4k.heads.commands.console import print_line, progress_counter
from tier4k.heads.commands.options import RowsGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from tier4k.cache.store import FeatureStore
    from tier4k.extract.datasets.check import CheckedDataset
    from tier4k.extract.datasets.choices import Stream
    from tier4k.extract.datasets.source import SourceTable
    from tier4k.heads.data.encoder_choice import EncoderChoice
    from tier4k.heads.data.stores import FeatureStores


IMAGE_RUN = "pass a run that was fitted with --streams image"
"""What helps commands on tables without prompts that use the heads of a run."""


def load_data(
    console: "Console",
    data: "Sequence[Path]",
    features: Path,
    rows: RowsGroup,
    only_store: "FeatureStore | None" = None,
    needs_prompts: bool = True,
) -> "CheckedDataset":
    """Read and check data sets.

    Args:
        console: Shows the progress.
        data: Data folders or tables.
        features: Folder of stores; images in them are not decoded again.
        rows: What the user says about the tables, and what happens to rows with problems.
        only_store: The only store in which images are looked up; None for all stores.
        needs_prompts: Whether every row must have a text prompt.

    Raises:
        DataError: The data set cannot be used.
    """
    sources = rows.read(data, needs_prompts)
    return check_sources(console, sources, features, rows.on_error, only_store)


def check_sources(
    console: "Console",
    sources: "Sequence[SourceTable]",
    features: Path,
    on_error: OnError,
    only_store: "FeatureStore | None" = None,
) -> "CheckedDataset":
    """Check data sets whose tables have been read, and print how they were read.

    Args:
        console: Shows the progress.
        sources: Table of each data set.
        features: Folder of stores; images in them are not decoded again.
        on_error: Whether rows with problems stop the command or are skipped.
        only_store: The only store in which images are looked up; None for all stores.

    Raises:
        DataError: The data set cannot be used.
    """
    from tier4k.extract.datasets.check import check_tables, raise_for_problems
    from tier4k.extract.datasets.spellings import spellings_text

    _print_reading(console, sources)
    keys = _stored_keys(features, only_store)
    with progress_counter(console, "check images") as count:
        report = raise_for_problems(check_tables(sources, keys, count), on_error)
    if report.problems:
        listing = features / "skipped.csv"
        report.write_problems(listing)
        rows = f"{report.skipped:,} of {report.rows:,} rows"
        print_line(
            console, f"Skipped {rows}, because they have problems; {listing} lists them", style="yellow"
        )
    if report.merged_generators:
        spellings = spellings_text(report.merged_generators)
        print_line(console, f"Spellings of one generator: {spellings}", style="yellow")
    return report


def _print_reading(console: "Console", sources: "Sequence[SourceTable]") -> None:
    """Print what was recognised, left out or not used when tables were read."""
    for source in sources:
        table = f"{source.path}: " if len(sources) > 1 else ""
        for line in source.report.lines():
            print_line(console, f"{table}{line}", style="yellow")


def require_prompts(
    sources: "Sequence[SourceTable]",
    streams: "Sequence[Stream]",
    otherwise: str = "use --streams image",
) -> None:
    """Refuse tables without text prompts if the prompts are used.

    Args:
        sources: Table of each data set.
        streams: Streams that are used.
        otherwise: What a user can do in this command without prompts; "" for nothing.

    Raises:
        DataError: A table has no column of prompts, and the streams contain the text.
    """
    from tier4k.extract.datasets.errors import DataError

    without = [str(source.path) for source in sources if not source.has_prompts]
    if without and "text" in streams:
        verb = "has" if len(without) == 1 else "have"
        remedies = "add a column of prompts, or name it with --columns prompt=COLUMN"
        if otherwise:
            remedies += f", or {otherwise}"
        raise DataError(f"{' and '.join(without)} {verb} no text prompts, which are needed here: {remedies}")


def load_with_stores(
    console: "Console",
    sources: "Sequence[SourceTable]",
    features: Path,
    choice: "EncoderChoice",
    on_error: OnError,
    scorers: "Sequence[str]" = (),
) -> "tuple[CheckedDataset, FeatureStores]":
    """Return checked data sets, and the stores of encoders and scorers.

    Args:
        console: Shows the progress.
        sources: Table of each data set.
        features: Folder of stores.
        choice: Encoders whose stores are found.
        on_error: Whether rows with problems stop the command or are skipped.
        scorers: Scorers whose stores of scores are found.

    Raises:
        TierError: The data set cannot be used, or the stores do not exist.
    """
    from tier4k.extract.stores.find import find_score_stores, find_stores
    from tier4k.heads.data.stores import FeatureStores

    scores = find_score_stores(features, scorers)
    images, texts = find_stores(features, choice.images, choice.texts)
    stores = FeatureStores.of(images, texts, scores)
    only_store = next(iter(images), None)
    return check_sources(console, sources, features, on_error, only_store), stores


def template_texts(path: Path | None, interaction: str) -> tuple[str, ...]:
    """Return the texts that an interaction compares images with; none if it has no templates.

    Args:
        path: File with the texts; None for the built-in ones.
        interaction: Names of interactions with "+" between them, or "none".

    Raises:
        TierError: The file cannot be used, or there is no such interaction.
        typer.BadParameter: A file is passed, and the interaction has no templates.
    """
    from tier4k.extract.encoders.templates import read_templates
    from tier4k.heads.data.interactions import needed_embeddings

    if "templates" in needed_embeddings(interaction):
        return read_templates(path).texts
    if path is None:
        return ()
    raise typer.BadParameter(
        "this option has no effect, as no image is compared with templates: choose the interaction templates "
        "too, or leave it out",
        param_hint="--templates",
    )


def _stored_keys(features: Path, only_store: "FeatureStore | None") -> frozenset[str]:
    from tier4k.cache.listing import stores

    keys: frozenset[str] = frozenset()
    for store in [only_store] if only_store else stores(features):
        with suppress(TierError):  # the images of a damaged store are decoded again
            keys |= store.hexadecimal_keys()
    return keys
