"""Load data sets and stores in a command, which prints what the functions of the API report."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tier4k.extract.datasets.choices import OnError
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.data_options import RowsGroup
from tier4k.heads.commands.reporter import ConsoleReporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tier4k.cache.store import FeatureStore
    from tier4k.extract.datasets.check import CheckedDataset
    from tier4k.extract.datasets.source import SourceTable
    from tier4k.heads.data.encoder_choice import EncoderChoice
    from tier4k.heads.data.stores import FeatureStores


IMAGE_RUN = "pass a run that was fitted with --streams image"
"""What helps commands on tables without prompts that use the heads of a run."""


def load_data(
    console: Console,
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
    console: Console,
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
    from tier4k.heads.extraction import data

    return data.check_sources(sources, features, on_error, ConsoleReporter(console), only_store)


def load_with_stores(
    console: Console,
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
    from tier4k.heads.data.find_features import find_chosen

    stores = find_chosen(features, choice, scorers, ConsoleReporter(console).noted)
    only_store = next(iter(stores.images.values()), None)
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
