"""What was extracted into a folder of stores: the keys of each data set, so that stores can be told complete, and `extract.json`."""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tier4k.cache.atomic import publish, publish_text
from tier4k.cache.keys import KEY_BYTES, key_array
from tier4k.cache.store import StoreError, writing
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.listener import StreamSummary
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.versions import library_versions

FOLDER = "datasets"

EXTRACTION_FILE = "extract.json"


@dataclass(frozen=True)
class DatasetRecord:
    """Keys of a data set's distinct inputs.

    Attributes:
        name: Name of the data set.
        data: Its folder when it was extracted.
        rows: Number of its rows.
        keys: For each stream, "image", "text" and "score" (pairs of both), the distinct keys (N, 32).
        names: For each stream what a person calls these inputs: the path of a picture below the data folder, the text itself, or both.
    """

    name: str
    data: str
    rows: int
    keys: dict[str, np.ndarray]
    names: dict[str, list[str]]

    @classmethod
    def of(cls, manifest: Manifest) -> "DatasetRecord":
        """The record of a manifest."""
        pictures, prompts, pairs = manifest.pictures(), manifest.prompts(), manifest.pairs()
        keys = {"image": pictures.index, "text": prompts.index, "score": pairs.index}
        arrays = {stream: key_array(map(bytes.fromhex, index)) for stream, index in keys.items()}
        paths = {path: os.path.relpath(path, manifest.data) for path in (*pictures, *pairs["image"])}
        both = [
            f"{paths[image]}: {prompt}" for image, prompt in zip(pairs["image"], pairs["prompt"], strict=True)
        ]
        names = {"image": [paths[path] for path in pictures], "text": prompts.tolist(), "score": both}
        return cls(manifest.name, str(manifest.data.resolve()), len(manifest), arrays, names)

    def keys_of(self, stream: str) -> np.ndarray:
        """The distinct keys (N, 32) of a stream; none where the record was written before there was such a stream."""
        return self.keys.get(stream, np.empty((0, KEY_BYTES), np.uint8))

    def write(self, root: Path) -> None:
        """Write or renew the record under `root`; a data set is known by its name and folder."""
        place = hashlib.sha256(f"{self.name}\n{self.data}".encode()).hexdigest()[:8]
        path = root / FOLDER / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', self.name)}-{place}.npz"
        about = json.dumps({"name": self.name, "data": self.data, "rows": self.rows, "names": self.names})
        with writing(path.parent):
            publish(
                path,
                lambda temporary: np.savez_compressed(
                    temporary, allow_pickle=False, about=np.array(about), **self.keys
                ),
            )


def records(root: Path) -> list[DatasetRecord]:
    """All records under `root`, in the order of their names.

    Raises:
        StoreError: One is damaged.
    """
    return list(record_files(root).values())


def record_files(root: Path) -> dict[Path, DatasetRecord]:
    """All records under `root` by their files; the error is that of `records`."""
    return {path: _read(path) for path in sorted((root / FOLDER).glob("[!.]*.npz"))}


def _read(path: Path) -> DatasetRecord:
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            return DatasetRecord(**about, keys={stream: file[stream] for stream in about["names"]})
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise StoreError(
            f"{path} is damaged ({error}): delete it, the next `tier extract` writes it again"
        ) from error


def input_names(root: Path, stream: str) -> dict[bytes, str]:
    """What the inputs of a stream are called in the recorded data sets, by key.

    Raises:
        StoreError: A record is damaged.
    """
    return {
        bytes(key): name
        for record in records(root)
        for key, name in zip(record.keys_of(stream), record.names.get(stream, ()), strict=True)
    }


def write_extraction(
    root: Path,
    data: Path,
    command: Sequence[str],
    options: ExtractionOptions,
    summaries: Sequence[StreamSummary],
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
