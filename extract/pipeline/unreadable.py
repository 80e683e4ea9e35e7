"""The report of images that an extraction left out, and of units that it gave up."""

import csv
from collections.abc import Sequence
from pathlib import Path

from tier4k.cache.atomic import publish
from tier4k.cache.text import first_few, shown
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.choices import OnError
from tier4k.extract.pipeline.listener import FailedUnit, StreamSummary, UnreadableImage
from tier4k.extract.pipeline.options import ExtractionError

LISTED = 10  # images in a message

UNREADABLE_FILE = "unreadable.csv"  # in a folder of stores: the images that its last extraction left out


def unreadable_images(summaries: Sequence[StreamSummary]) -> list[UnreadableImage]:
    """Return the distinct images that extractions left out."""
    images: dict[UnreadableImage, None] = {}
    for summary in summaries:
        images.update(dict.fromkeys(summary.unreadable))
    return list(images)


def write_unreadable(path: Path, images: Sequence[UnreadableImage]) -> None:
    """Write images that were left out to a CSV file with the columns place and reason.

    If there are none, the file of an earlier extraction is removed.

    Raises:
        StoreError: The file cannot be written or removed.
    """

    def write(temporary: Path) -> None:
        """Write the file under a temporary name."""
        with temporary.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["place", "reason"])
            lines.writerows([shown(image.place), shown(image.reason)] for image in images)

    with explain_write_errors(path):
        if images:
            publish(path, write)
        elif path.exists():  # a read-only file system refuses to remove even a missing file
            path.unlink(missing_ok=True)


def require_all_encoded(summaries: Sequence[StreamSummary], on_error: OnError = "stop") -> None:
    """Raise an error if inputs were left out, or given up.

    Args:
        summaries: The outcome of an extraction.
        on_error: Whether images that cannot be read are an error, or are skipped.

    Raises:
        ExtractionError: Inputs have no features. Those of all others are stored.
    """
    problems = _failures(summaries)
    if on_error == "stop":
        problems += _left_out(summaries)
    if problems:
        raise ExtractionError(". ".join(problems))


def _left_out(summaries: Sequence[StreamSummary]) -> list[str]:
    images = unreadable_images(summaries)
    if not images:
        return []
    lines = first_few([f"{image.place} ({image.reason})" for image in images], LISTED)
    are = "image was" if len(images) == 1 else "images were"
    return [
        f"{len(images):,} {are} left out, and the features of all others are stored: {lines}. Run the "
        "same command again when they are correct, or with --on-error skip, which leaves them out"
    ]


def _failures(summaries: Sequence[StreamSummary]) -> list[str]:
    units: dict[FailedUnit, None] = {}
    for summary in summaries:
        units.update(dict.fromkeys(summary.failed))
    if not units:
        return []
    lines: list[str] = []
    for unit in units:
        lines.extend(f"{name} ({unit.reason})" for name in unit.inputs)
    count = sum(unit.count for unit in units)
    are = "input was" if count == 1 else "inputs were"
    return [
        f"{count:,} {are} given up after repeated failures, and the features of all others are stored: "
        f"{first_few(lines, LISTED)}. Run the same command again, which encodes them"
    ]
