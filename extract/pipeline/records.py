"""Records in a folder of stores: the keys of each data set, and `extract.json`."""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tier4k.cache.atomic import publish, publish_text
from tier4k.cache.errors import StoreError
from tier4k.cache.keys import KEY_BYTES, key_array, text_key
from tier4k.cache.text import shown
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.listener import StreamSummary
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.versions import library_versions

FOLDER = "datasets"

EXTRACTION_FILE = "extract.json"

TEMPLATE = "template"  # name of the templates among the streams of a record


@dataclass(frozen=True)
class DatasetRecord:
    """Keys of a data set's distinct inputs.

    Attributes:
        name: Name of the data set.
        data: Folder of the data set when it was extracted.
        rows: Number of rows of the data set.
        keys: For each stream, "image", "text" and "score" (pairs of both), the distinct keys (N, 32);
            "template" has those of the texts that text encoders encoded besides the prompts.
        names: For each stream the N readable names of its inputs: the path of an image below the data
            folder, the text itself, or both.
    """

    name: str
    data: str
    rows: int
    keys: dict[str, np.ndarray]
    names: dict[str, list[str]]

    @classmethod
    def of(cls, manifest: Manifest, templates: Sequence[str] = ()) -> "DatasetRecord":
        """Return the record of a manifest and of the templates that are encoded with it."""
        images = manifest.images()
        prompts = manifest.prompts()
        pairs = manifest.pairs()
        pair_names = []
        for path, prompt in zip(pairs["image"], pairs["prompt"], strict=True):
            pair_names.append(f"{_below(path, manifest.data)}: {prompt}")
        return cls(
            name=manifest.name,
            data=str(manifest.data.resolve()),
            rows=len(manifest),
            keys={
                "image": _key_array(images.index),
                "text": _key_array(prompts.index),
                "score": _key_array(pairs.index),
                TEMPLATE: key_array(map(text_key, templates)),
            },
            names={
                "image": [_below(path, manifest.data) for path in images],
                "text": prompts.tolist(),
                "score": pair_names,
                TEMPLATE: list(templates),
            },
        )

    def keys_of(self, stream: str) -> np.ndarray:
        """Return the distinct keys (N, 32) of a stream; N is 0 for a stream that an older record lacks."""
        return self.keys.get(stream, np.empty((0, KEY_BYTES), np.uint8))

    def keys_in_store(self, stream: str) -> np.ndarray:
        """Return the keys (N, 32) of a stream and, if it is "text", of the templates."""
        return np.concatenate([self.keys_of(part) for part in _streams_in_stores(stream)])

    def write(self, root: Path) -> None:
        """Write the record under `root`, over an earlier record of the same data set (name and folder).

        Templates of the earlier record are kept: the stores still hold them.

        Raises:
            StoreError: The record cannot be written.
        """
        folder_hash = hashlib.sha256(os.fsencode(f"{self.name}\n{self.data}")).hexdigest()[:8]
        file_name = re.sub(r"[^A-Za-z0-9._-]+", "_", self.name)
        path = root / FOLDER / f"{file_name}-{folder_hash}.npz"
        templates = list(dict.fromkeys([*_recorded_templates(path), *self.names[TEMPLATE]]))
        keys = self.keys | {TEMPLATE: key_array(map(text_key, templates))}
        names = self.names | {TEMPLATE: templates}
        about = {"name": self.name, "data": self.data, "rows": self.rows, "names": names}

        def save(temporary: Path) -> None:
            """Write the file under a temporary name."""
            np.savez_compressed(temporary, allow_pickle=False, about=np.array(json.dumps(about)), **keys)

        with explain_write_errors(path.parent):
            publish(path, save)


def _below(path: str, folder: Path) -> str:
    return shown(os.path.relpath(path, folder))


def _streams_in_stores(stream: str) -> tuple[str, ...]:
    """Return the streams of a record whose inputs are in stores of one stream."""
    return (stream, TEMPLATE) if stream == "text" else (stream,)


def _recorded_templates(path: Path) -> list[str]:
    """Return the templates of a record; none if there is no record, or a damaged one, which is replaced."""
    if not path.exists():
        return []
    with suppress(StoreError):
        return _read(path).names.get(TEMPLATE, [])
    return []


def _key_array(hexadecimal: Iterable[str]) -> np.ndarray:
    return key_array(map(bytes.fromhex, hexadecimal))


def records(root: Path) -> list[DatasetRecord]:
    """Return all records under `root`, in the order of their names.

    Raises:
        StoreError: A record is damaged.
    """
    return list(record_files(root).values())


def record_files(root: Path) -> dict[Path, DatasetRecord]:
    """Return all records under `root` by their files.

    Raises:
        StoreError: A record is damaged.
    """
    files = sorted((root / FOLDER).glob("[!.]*.npz"))
    return {path: _read(path) for path in files}


def _read(path: Path) -> DatasetRecord:
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            keys = {stream: file[stream] for stream in about["names"]}
            return DatasetRecord(**about, keys=keys)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        remedy = "delete the file; the next `tier extract` of this data set writes it again"
        raise StoreError(f"{path} is damaged ({error}): {remedy}") from error


def input_names(root: Path, stream: str) -> dict[bytes, str]:
    """Return the readable names of a stream's inputs in the recorded data sets, by key; templates are texts.

    Raises:
        StoreError: A record is damaged.
    """
    names: dict[bytes, str] = {}
    for record in records(root):
        for part in _streams_in_stores(stream):
            part_names = record.names.get(part, [])
            for key, name in zip(record.keys_of(part), part_names, strict=True):
                names[bytes(key)] = name
    return names


def write_extraction(
    root: Path,
    data: Sequence[Path],
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
        "data": shown(" ".join(map(str, data))),
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
