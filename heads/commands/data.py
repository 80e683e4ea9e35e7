"""`tier data`: check data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.extract.encoders.choices import DEFAULT_TEXT_ENCODER
from tier4k.heads.commands.console import make_console, progress_counter
from tier4k.heads.commands.encoder_options import TEXT_ENCODERS
from tier4k.heads.commands.encoders import weight_folders
from tier4k.heads.commands.options import DataArgument, RatersOption, TableGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tier4k.extract.datasets.source import SourceTable
    from tier4k.extract.encoders.text_tokenizer import TextTokenizer


def data_check(
    data: DataArgument,
    *,
    table: TableGroup,
    raters: RatersOption = None,
    problems: Annotated[
        Path | None,
        typer.Option(help="CSV file to which every problem is written."),
    ] = None,
    text_encoder: Annotated[
        str,
        typer.Option(
            "--text-encoder", help=f"Encoder whose tokenizer splits the prompts into tokens: {TEXT_ENCODERS}"
        ),
    ] = DEFAULT_TEXT_ENCODER,
) -> None:
    """Check every row and every image of DATA and print a summary. Problems cause exit code 2."""
    from tier4k.extract.datasets.check import check_tables
    from tier4k.extract.datasets.layouts.read import read_source
    from tier4k.extract.datasets.summary import summarize, summary_table

    sources = [read_source(path, table.choice, raters) for path in data]
    tokenizer = _find_tokenizer(sources, text_encoder)
    console = make_console()
    with progress_counter(console, "check images") as count:
        report = check_tables(sources, progress=count)
    console.print(summary_table(summarize(report, tokenizer)))
    if problems:
        report.write_problems(problems)
    if report.problems:
        raise report.error()
    console.print(f"No problems in {len(report.manifest):,} rows.", style="green")


def _find_tokenizer(sources: "Sequence[SourceTable]", text_encoder: str) -> "TextTokenizer | None":
    """Return the tokenizer of a text encoder; None if the files of a preset are not on this machine.

    Raises:
        TierError: There is no such encoder or folder, or the files of the tokenizer are damaged.
    """
    from tier4k.extract.encoders.find import find_text_encoder
    from tier4k.extract.encoders.presets import TEXT_PRESETS
    from tier4k.extract.encoders.text_tokenizer import load_text_tokenizer
    from tier4k.extract.weights.files import WeightsError

    try:
        encoder = find_text_encoder(text_encoder, folders=weight_folders(sources))
    except WeightsError:
        if text_encoder not in TEXT_PRESETS:
            raise
        return None
    return load_text_tokenizer(encoder)
