"""Missing inputs: the inputs of a data set that an encoder's store does not contain."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tier4k.cache.keys import key_array
from tier4k.cache.signature import SIGNATURE_FILE
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.scorers.scorer import Scorer

Encoder = ImageEncoder | TextEncoder | Scorer


@dataclass(frozen=True)
class Work:
    """One encoder with its inputs, and which of the inputs its store does not contain yet.

    Attributes:
        encoder: An image encoder, a text encoder or a scorer.
        inputs: N distinct inputs, indexed by key in hexadecimal: paths of images, texts, or, for a scorer,
            rows of `Manifest.pairs`.
        missing: (N,) bool: the inputs to encode.
    """

    encoder: Encoder
    inputs: Any
    missing: np.ndarray

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        encoder: Encoder,
        root: Path,
        part: tuple[int, int],
    ) -> "Work":
        """Return the work of an encoder on a part of a data set; see `ExtractionOptions` for `part`."""
        inputs = _inputs(manifest, encoder.signature.stream)
        inputs = inputs[_in_part(inputs.index, part)]
        store = root / encoder.signature.folder_name
        missing = np.ones(len(inputs), dtype=bool)
        # A process that was killed while it created the store leaves a folder without a signature.
        if (store / SIGNATURE_FILE).exists():
            missing = ~FeatureStore.open(store).holds(_keys(inputs.index))
        return cls(encoder, inputs, missing)

    @property
    def keys(self) -> np.ndarray:
        """Keys (N, 32) of the inputs."""
        return _keys(self.inputs.index)


def _inputs(manifest: Manifest, stream: str) -> Any:
    if stream == "image":
        return manifest.images()
    if stream == "text":
        return manifest.prompts()
    return manifest.pairs()


def _in_part(keys: pd.Index, part: tuple[int, int]) -> np.ndarray:
    """Return a mask (N,) of the keys that belong to the i-th of n parts."""
    number, parts = part
    numbers = np.array([int(key[:8], 16) for key in keys], dtype=np.int64)
    return numbers % parts == number - 1


def _keys(index: pd.Index) -> np.ndarray:
    return key_array(map(bytes.fromhex, index))
