"""Plan stage 1 in a command, which prints what the functions of the API report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.extract.datasets.choices import OnError
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.reporter import ConsoleReporter

if TYPE_CHECKING:
    from tier4k.extract.datasets.rows.source import RowSource
    from tier4k.extract.inputs.plan import Plan


def plan_rows(
    console: Console,
    sources: "Sequence[RowSource]",
    features: Path,
    on_error: OnError,
) -> "Plan":
    """Plan data sets, and print how they were read and which rows are skipped.

    Args:
        console: Shows the progress.
        sources: The data sets.
        features: Folder of stores, which has the cache of hashes.
        on_error: Whether rows with problems stop the command or are skipped.

    Raises:
        DataError: A row has a problem and `on_error` is "stop", or no row is left.
    """
    from tier4k.heads.extraction import planning

    return planning.plan_rows(sources, features, on_error, ConsoleReporter(console))
