"""Which data sets were extracted into a folder of stores: one small file of keys each, so that stores can be told complete."""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.atomic import publish
from cache.keys import key_array
from cache.store import StoreError, writing
from extract.manifest import Manifest

FOLDER = "datasets"


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
