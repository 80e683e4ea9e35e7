"""What was extracted into a folder of stores: the keys of each data set, so that stores can be told complete, and `extract.json`."""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cache.atomic import publish, publish_text
from cache.keys import key_array
from cache.store import StoreError, writing
from extract.encoders import library_versions
from extract.manifest import Manifest
from extract.run import ExtractionOptions, StreamSummary

FOLDER = "datasets"
EXTRACTION_FILE = "extract.json"


@dataclass(frozen=True)
class DatasetRecord:
    """Keys of a data set's distinct inputs.

    Attributes:
        name: Name of the data set.
        data: Its folder when it was extracted.
        rows: Number of its rows.
        keys: For each stream, "image" and "text", the distinct keys (N, 32).
    """

    name: str
    data: str
    rows: int
    keys: dict[str, np.ndarray]

    @classmethod
    def of(cls, manifest: Manifest) -> "DatasetRecord":
        """The record of a manifest."""
        keys = {"image": manifest.pictures().index, "text": manifest.prompts().index}
        arrays = {stream: key_array(map(bytes.fromhex, index)) for stream, index in keys.items()}
        return cls(manifest.name, str(manifest.data.resolve()), len(manifest), arrays)

    def write(self, root: Path) -> None:
        """Write or renew the record under `root`; a data set is known by its name and folder."""
        place = hashlib.sha256(f"{self.name}\n{self.data}".encode()).hexdigest()[:8]
        path = root / FOLDER / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', self.name)}-{place}.npz"
        about = json.dumps({"name": self.name, "data": self.data, "rows": self.rows})
        with writing(path.parent):
            publish(path, lambda temporary: np.savez(temporary, allow_pickle=False, about=np.array(about), **self.keys))


def records(root: Path) -> Iterator[DatasetRecord]:
    """All records under `root`, in the order of their names.

    Raises:
        StoreError: One is damaged.
    """
    for path in sorted((root / FOLDER).glob("[!.]*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                yield DatasetRecord(**about, keys={stream: file[stream] for stream in ("image", "text")})
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path} is damaged ({error}): delete it, the next `tier extract` writes it again") from error


def write_extraction(
    root: Path, data: Path, command: Sequence[str], options: ExtractionOptions, summaries: Sequence[StreamSummary]
) -> None:
    """Write `extract.json` under `root`: how the last extraction into these stores went.

    Args:
        root: Folder of stores.
        data: The data set, as given.
        command: The command line.
        options: Batch sizes, device, workers.
        summaries: What each encoder did.
    """
    encoders = [
        {
            "stream": one.stream,
            "encoder": one.encoder,
            "store": one.store.name,
            "inputs": one.inputs,
            "encoded": one.encoded,
            "batch_size": one.batch_size,
            "inputs_per_second": one.encoded / one.timing.total if one.encoded else None,
            "seconds": asdict(one.timing),
        }
        for one in summaries
    ]
    about = {
        "data": str(data),
        "command": list(command),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": library_versions(),
        "options": asdict(options),
        "encoders": encoders,
    }
    with writing(root):
        publish_text(root / EXTRACTION_FILE, json.dumps(about, indent=2) + "\n")
