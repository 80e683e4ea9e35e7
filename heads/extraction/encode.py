"""Encode the inputs of data sets, and report the outcome."""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.datasets.choices import OnError
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.progress import describe
from tier4k.extract.pipeline.run import EVERY_INPUT, extract
from tier4k.extract.pipeline.unreadable import (
    LISTED,
    UNREADABLE_FILE,
    require_all_encoded,
    unreadable_images,
    write_unreadable,
)
from tier4k.heads.extraction.reporter import Reporter

ENCODER_NAMES = {"image": "image encoder", "text": "text encoder", "score": "scorer"}


def encode(
    data: Sequence[str],
    features: Path,
    inputs: DatasetInputs,
    encoders: Sequence[Encoder],
    options: ExtractionOptions,
    reporter: Reporter,
    choice: InputChoice = EVERY_INPUT,
    on_error: OnError = "stop",
    command: Sequence[str] = (),
) -> None:
    """Encode the inputs of a data set that are in no store yet.

    Args:
        data: The data sets, as the user named them.
        features: Folder of stores.
        inputs: The inputs of the data sets.
        encoders: Encoders and scorers; the features of each are written to its own store.
        options: Batch size, device and number of workers.
        reporter: Receives the progress, and a line for each encoder.
        choice: The inputs that are encoded.
        on_error: Whether images that cannot be read are an error, once all others are stored, or are skipped.
        command: Command line, which is recorded.

    Raises:
        TierError: An input cannot be encoded or an image not be read, or a store cannot be written.
    """
    for encoder in encoders:
        name = f"{ENCODER_NAMES[encoder.signature.stream]} {encoder.signature.encoder}"
        reporter.noted(f"{name}: weights from {encoder.weights.source}")
    with reporter.encoding() as listener:
        summaries = extract(
            inputs,
            encoders,
            features,
            options,
            listener,
            choice=choice,
            data=data,
            command=command,
        )
    for summary in summaries:
        reporter.noted(describe(summary))
    unreadable = unreadable_images(summaries)
    write_unreadable(features / UNREADABLE_FILE, unreadable)
    require_all_encoded(summaries, on_error)
    for image in unreadable[:LISTED]:
        reporter.warned(f"Skipped {image.place}: {image.reason}")
    if unreadable:
        total = f"{len(unreadable):,} images that cannot be read"
        reporter.warned(f"Skipped {total}; {features / UNREADABLE_FILE} lists them")
