"""`tier data`: check data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tier4k.cache.text import first_few
from tier4k.extract.encoders.choices import DEFAULT_TEXT_ENCODER
from tier4k.heads.commands import panels
from tier4k.heads.commands.completion import choices
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.data_options import RatersOption, StreamedDataArgument, TableGroup
from tier4k.heads.commands.encoder_options import TEXT_ENCODERS
from tier4k.heads.commands.encoders import weight_folders
from tier4k.heads.commands.other_command import next_command
from tier4k.heads.commands.output_options import OutputGroup
from tier4k.heads.commands.reporter import ConsoleReporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tier4k.extract.datasets.source import SourceTable
    from tier4k.extract.encoders.text_tokenizer import TextTokenizer

LISTED = 10  # images in a message


def data_check(
    context: typer.Context,
    data: StreamedDataArgument,
    *,
    table: TableGroup,
    raters: RatersOption = None,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            help="Decode every image, to find damaged ones before extract.",
            rich_help_panel=panels.DATA,
        ),
    ] = False,
    problems: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV file to which every problem is written.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = None,
    text_encoder: Annotated[
        str,
        typer.Option(
            "--text-encoder",
            metavar="NAME",
            help="Encoder whose tokens are counted.",
            autocompletion=choices(TEXT_ENCODERS),
            rich_help_panel=panels.FEATURES,
        ),
    ] = DEFAULT_TEXT_ENCODER,
    printing: OutputGroup,
) -> None:
    """Check rows and images of DATA, and print a summary. Problems cause exit code 2."""
    from tier4k.extract.datasets.rows.open import open_stream

    console = printing.console()
    streams = [open_stream(path, table.choice, needs_prompts=True) for path in data]
    if any(streams):
        _check_streams(console, data, table, decode, problems)
    else:
        _check_tables(console, list(map(Path, data)), table, raters, decode, problems, text_encoder)
    console.command(next_command(context, "extract"))


def _check_tables(
    console: Console,
    data: "Sequence[Path]",
    table: TableGroup,
    raters: int | None,
    decode: bool,
    problems: Path | None,
    text_encoder: str,
) -> None:
    """Check tables on this machine: images, prompts and scores."""
    from tier4k.extract.datasets.check import check_tables
    from tier4k.extract.datasets.layouts.read import read_source
    from tier4k.extract.datasets.summary import summarize, summary_table

    sources = [read_source(path, table.choice, raters) for path in data]
    tokenizer = _find_tokenizer(sources, text_encoder)
    with console.task("check images") as count:
        report = check_tables(sources, progress=count, decode=decode)
    console.show(summary_table(summarize(report, tokenizer)))
    if problems:
        report.write_problems(problems)
    if report.problems:
        raise report.error()
    console.note(f"No problems in {len(report.manifest):,} rows.", style="green")


def _check_streams(
    console: Console,
    data: "Sequence[str]",
    table: TableGroup,
    decode: bool,
    problems: Path | None,
) -> None:
    """Check the images and prompts of data sets whose rows are a stream; their scores are not read."""
    from tier4k.extract.datasets.errors import DataError
    from tier4k.extract.datasets.hashes.cache import KeyCache
    from tier4k.extract.datasets.hashes.hasher import ImageHasher
    from tier4k.extract.datasets.rows.open import open_rows
    from tier4k.extract.inputs.plan import plan_inputs
    from tier4k.extract.pipeline.undecodable import undecodable_images
    from tier4k.heads.extraction.data import report_reading
    from tier4k.heads.extraction.planning import require_usable_rows

    sources = [open_rows(path, table.choice, needs_prompts=True) for path in data]
    report_reading(sources, ConsoleReporter(console))
    with console.task("hash images") as count:
        found = plan_inputs(sources, ImageHasher(KeyCache(None)), progress=count)
    images = f"{len(found.inputs.images):,} distinct images"
    prompts = f"{len(found.inputs.prompts):,} distinct prompts" if found.inputs.has_prompts else "no prompts"
    console.note(f"{found.rows:,} rows, {images}, {prompts}")
    if problems:
        found.problems.write(problems)
    damaged: list[str] = []
    if decode:
        with console.task("decode images") as count:
            damaged = list(undecodable_images(found.inputs.images, count))
    if damaged:
        count_text = "1 image" if len(damaged) == 1 else f"{len(damaged):,} images"
        console.warn(f"{count_text} cannot be decoded: {first_few(damaged, LISTED)}", "red")
    require_usable_rows(found, sources, "stop")
    if damaged:
        raise DataError(
            "Replace the images that cannot be decoded, or pass --on-error skip to `tier extract`."
        )
    console.note(f"No problems in {found.rows:,} rows.", style="green")


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
