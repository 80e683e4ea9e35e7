"""Stage 1 in a command: encode the inputs, show the progress, and print a summary."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.extract.datasets.choices import OnError
from tier4k.heads.commands.console import Console
from tier4k.heads.commands.reporter import ConsoleReporter

if TYPE_CHECKING:
    from tier4k.extract.inputs.dataset import DatasetInputs
    from tier4k.extract.pipeline.missing_inputs import Encoder
    from tier4k.extract.pipeline.options import ExtractionOptions


def encode(
    console: Console,
    data: Sequence[str],
    features: Path,
    inputs: "DatasetInputs",
    encoders: "Sequence[Encoder]",
    options: "ExtractionOptions",
    on_error: OnError = "stop",
) -> None:
    """Encode the inputs of a data set that are in no store yet, and print the outcome.

    The arguments and errors are those of `tier4k.heads.extraction.encode.encode`.
    """
    from tier4k.heads.extraction import encode as extraction

    reporter = ConsoleReporter(console)
    extraction.encode(
        data, features, inputs, encoders, options, reporter, on_error=on_error, command=sys.argv
    )
