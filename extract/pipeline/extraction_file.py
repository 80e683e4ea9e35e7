"""The file `extract.json` in a folder of stores: how the last extraction went."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tier4k.cache.atomic import publish_text
from tier4k.cache.text import shown
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.pipeline.listener import StreamSummary
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.versions import library_versions

EXTRACTION_FILE = "extract.json"


def write_extraction(
    root: Path,
    data: Sequence[str],
    command: Sequence[str],
    options: ExtractionOptions,
    summaries: Sequence[StreamSummary],
) -> None:
    """Write `extract.json` under `root`: the outcome of the last extraction into these stores.

    Args:
        root: Folder of stores.
        data: The data sets, as the user named them.
        command: The command line.
        options: Batch sizes, device, workers.
        summaries: Outcome for each encoder.

    Raises:
        StoreError: The file cannot be written.
    """
    about = {
        "data": shown(" ".join(data)),
        "command": list(map(shown, command)),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": library_versions(),
        "options": asdict(options),
        "encoders": [_extraction_entry(summary) for summary in summaries],
    }
    with explain_write_errors(root):
        publish_text(root / EXTRACTION_FILE, json.dumps(about, indent=2) + "\n")


def _extraction_entry(summary: StreamSummary) -> dict[str, Any]:
    inputs_per_second = summary.encoded / summary.timing.total if summary.encoded else None
    return {
        "stream": summary.stream,
        "encoder": summary.encoder,
        "store": summary.store.name,
        "inputs": summary.inputs,
        "encoded": summary.encoded,
        "batch_size": summary.batch_size,
        "inputs_per_second": inputs_per_second,
        "seconds": asdict(summary.timing),
    }
