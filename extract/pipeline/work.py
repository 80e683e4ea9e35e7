"""What is missing: the inputs of a data set that an encoder's store does not hold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tier4k.cache.keys import key_array
from tier4k.cache.store import SIGNATURE_FILE, FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.scorers.scorer import Scorer

Encoder = ImageEncoder | TextEncoder | Scorer


@dataclass(frozen=True)
class Work:
    """One encoder with the inputs that its store does not hold yet.

    Attributes:
        encoder: The encoder.
        inputs: All distinct inputs, indexed by key in hexadecimal: paths, texts, or, of a scorer, lines of `Manifest.pairs`.
        missing: (N,) bool: which of them are to be encoded.
    """

    encoder: Encoder
    inputs: Any
    missing: np.ndarray

    @classmethod
    def of(cls, manifest: Manifest, encoder: Encoder, root: Path, part: tuple[int, int]) -> "Work":
        """What an encoder has to do on its part of a data set."""
        inputs: Any = {"image": manifest.pictures, "text": manifest.prompts, "score": manifest.pairs}[
            encoder.signature.stream
        ]()
        number, parts = part
        inputs = inputs[
            np.array([int(key[:8], 16) % parts == number - 1 for key in inputs.index], dtype=bool)
        ]
        missing = np.ones(len(inputs), dtype=bool)
        path = root / encoder.signature.folder_name
        if (path / SIGNATURE_FILE).exists():  # a folder without it was being made when its maker was killed
            missing = ~FeatureStore.open(path).holds(key_array(map(bytes.fromhex, inputs.index)))
        return cls(encoder, inputs, missing)

    @property
    def keys(self) -> np.ndarray:
        """Keys (N, 32) of the inputs."""
        return key_array(map(bytes.fromhex, self.inputs.index))
