"""Stage 1 in a command: encode the inputs, show the progress, and print a summary."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.heads.commands.console import print_line, print_summaries

if TYPE_CHECKING:
    from rich.console import Console

    from tier4k.extract.datasets.check import CheckedDataset
    from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice
    from tier4k.extract.pipeline.options import ExtractionOptions

ENCODER_NAMES = {"image": "image encoder", "text": "text encoder", "score": "scorer"}


def encode(
    console: "Console",
    data: Sequence[Path],
    features: Path,
    report: "CheckedDataset",
    encoders: "Sequence[Encoder]",
    options: "ExtractionOptions",
    choice: "InputChoice | None" = None,
) -> None:
    """Encode the inputs of a data set that are in no store yet.

    Args:
        console: Shows the progress.
        data: The data sets, as the user named them.
        features: Folder of stores.
        report: The checked data set.
        encoders: Encoders and scorers; the features of each are written to its own store.
        options: Batch size, device and number of workers.
        choice: The inputs that are encoded; None for all of the data set's.

    Raises:
        TierError: An input cannot be encoded, or a store cannot be written.
    """
    from tier4k.extract.pipeline.progress import ConsoleListener
    from tier4k.extract.pipeline.run import EVERY_INPUT, extract

    for encoder in encoders:
        name = f"{ENCODER_NAMES[encoder.signature.stream]} {encoder.preset.name}"
        print_line(console, f"{name}: weights from {encoder.weights.source}")
    with ConsoleListener(console) as listener:
        summaries = extract(
            report.manifest,
            encoders,
            features,
            options,
            listener,
            choice=choice or EVERY_INPUT,
            data=data,
            command=sys.argv,
        )
    print_summaries(console, summaries)
