"""Scores of rows in a command: score them, list the first, and write all to a file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import OnError
from tier4k.heads.commands import panels
from tier4k.heads.commands.console import Console

if TYPE_CHECKING:
    from tier4k.heads.inference.keyed_rows import KeyedRows
    from tier4k.heads.inference.score_rows import RowReceiver, RowScorer, ScoreMemory
    from tier4k.heads.inference.score_tables import ScoreTable
    from tier4k.heads.inference.scoring_model import ScoringModel

LISTED = 40  # number of images whose scores are shown on the terminal

ScoresOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File of scores: .parquet, .csv, .jsonl or .json.",
        rich_help_panel=panels.OUTPUT,
    ),
]


class PredictionError(TierError):
    """Scores cannot be written, or rows have none."""


def require_suffix_of(output: Path | None) -> None:
    """Refuse an output of unknown format, before any work.

    Raises:
        PredictionError: The name does not end in .parquet, .csv, .jsonl or .json.
    """
    from tier4k.cache.atomic import require_suffix
    from tier4k.heads.inference.known_scores import SUFFIX
    from tier4k.heads.inference.score_tables import WRITERS

    if output is not None:
        require_suffix(output, (SUFFIX, *WRITERS), PredictionError)


def require_addable_to(output: Path | None, model: "ScoringModel") -> None:
    """Refuse an output that has scores of another model, before inputs are encoded.

    Raises:
        ScoreFileError: The file exists and has other scores, or cannot be read.
    """
    from tier4k.heads.inference.known_scores import SUFFIX
    from tier4k.heads.inference.score_files import require_addable

    if output is not None and output.suffix == SUFFIX:
        require_addable(output, model)


def show_scores(
    console: Console,
    scorer: "RowScorer",
    batches: "Iterable[KeyedRows]",
    total: int,
    model: "ScoringModel",
    output: Path | None,
    on_error: OnError,
) -> None:
    """Score rows, list the first, and write all to a file.

    Args:
        console: Shows the progress and the list.
        scorer: Scores the rows.
        batches: The rows in their order.
        total: Their number.
        model: What the scores are of.
        output: File to write.
        on_error: Whether rows that turn out to have no score are an error, after all others are written.

    Raises:
        PredictionError: Rows have no score, and `on_error` is "stop".
        TierError: Rows cannot be scored, or the file cannot be written.
    """
    from tier4k.heads.inference.known_scores import SUFFIX
    from tier4k.heads.inference.score_files import write_score_file
    from tier4k.heads.inference.score_rows import score_rows
    from tier4k.heads.inference.score_tables import ScoreTable, with_left_out, write_table

    is_small = output is not None and output.suffix != SUFFIX
    table = ScoreTable(scorer.summary, LISTED if console.is_for_terminal and not is_small else None)

    def score(memory: "ScoreMemory | None", receivers: "Sequence[RowReceiver]") -> None:
        """Score all rows."""
        with console.task("score") as count:
            score_rows(batches, scorer, [table, *receivers], memory, count, total)

    note = ""
    if output is None or is_small:
        score(None, ())
    else:
        written = write_score_file(output, model, score)
        note = f"; {written.known:,} were scored before" if written.known else ""
        note += f"; {written.kept:,} earlier rows that the data do not have are kept" if written.kept else ""
    _print_scores(console, table, scorer.summary.targets, output)
    if output is not None and is_small:
        write_table(with_left_out(table.table, scorer.summary.targets, table.left_out), output)
    if output is not None:
        rest = f", and {table.left_out_count:,} left out with the reason" if table.left_out_count else ""
        console.result(f"{output}: {table.scored:,} images{rest}{note}")
    _report_failed(console, table, on_error)


def _print_scores(
    console: Console,
    table: "ScoreTable",
    targets: "Sequence[str]",
    output: Path | None,
) -> None:
    """Print the first scores; in other formats than that of the terminal all of them."""
    from tier4k.extract.screen.table import Table
    from tier4k.heads.inference.score_tables import with_left_out
    from tier4k.heads.reporting.terminal.scores import score_legend, score_listing

    if console.is_for_programs:
        frame = with_left_out(table.table, targets, table.left_out)
        console.show(Table((), tuple(frame.to_dict("records"))))
        return
    most = LISTED if console.is_for_terminal else table.scored
    console.show(score_listing(table.table, most))
    if legend := score_legend(table.table):
        console.note(legend, "dim")
    if table.scored > most:
        remedy = "" if output else ": pass -o FILE.csv to write all scores"
        console.note(f"… and {table.scored - LISTED:,} more images{remedy}")


def _report_failed(
    console: Console,
    table: "ScoreTable",
    on_error: OnError,
) -> None:
    """Name the rows that turned out to have no score while all others were scored."""
    if not table.failed_count:
        return
    rest = table.failed_count - len(table.failed)
    listed = "; ".join(map(str, table.failed)) + (f" and {rest:,} more" if rest else "")
    if on_error == "skip":
        console.warn(f"Skipped {listed}")
        return
    were = "image was" if table.failed_count == 1 else "images were"
    raise PredictionError(
        f"{table.failed_count:,} {were} left out, and all others are scored: {listed}. Run the same command "
        "again when they are correct, or with --on-error skip, which leaves them out"
    )
