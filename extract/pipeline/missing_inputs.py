"""Missing inputs: the inputs of a data set that an encoder's store does not contain."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import SIGNATURE_FILE, Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import STREAMS, Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.scorers.scorer import Scorer

Encoder = ImageEncoder | TextEncoder | Scorer


@dataclass(frozen=True)
class InputChoice:
    """The inputs of a data set that encoders encode, and further texts.

    Attributes:
        streams: Image encoders encode the images of these streams, text encoders the prompts if "text" is
            among them.
        templates: Texts that text encoders encode besides the prompts, by the signature of the encoder.
    """

    streams: tuple[Stream, ...] = STREAMS
    templates: Mapping[Signature, tuple[str, ...]] = field(default_factory=dict)

    @property
    def template_texts(self) -> tuple[str, ...]:
        """The distinct texts of all encoders."""
        texts: dict[str, None] = {}
        for texts_of_encoder in self.templates.values():
            texts.update(dict.fromkeys(texts_of_encoder))
        return tuple(texts)

    def inputs(self, manifest: Manifest, encoder: Encoder) -> Any:
        """Return the distinct inputs of an encoder, as in `Work`.

        Raises:
            ExtractionError: The data set has no image of the streams.
        """
        signature = encoder.signature
        if isinstance(encoder, ImageEncoder):
            return self._images(manifest)
        if isinstance(encoder, TextEncoder):
            prompts = manifest.prompts()
            if "text" not in self.streams:
                prompts = prompts[:0]
            return _with_texts(prompts, self.templates.get(signature, ()))
        return manifest.pairs()

    def _images(self, manifest: Manifest) -> pd.Series:
        images = manifest.images(self.streams)
        if images.empty:
            raise ExtractionError(
                f"{manifest.name} has no image prompts, the only images of --streams "
                f"{'+'.join(self.streams)}: add image to the streams"
            )
        return images


def _with_texts(prompts: pd.Series, texts: tuple[str, ...]) -> pd.Series:
    """Return prompts and further texts, indexed by key in hexadecimal; a text that is a prompt stays one."""
    keys = [text_key(text).hex() for text in texts]
    both = pd.concat([prompts, pd.Series(texts, keys, dtype=prompts.dtype)])
    return both[~both.index.duplicated()]


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
        choice: InputChoice,
    ) -> "Work":
        """Return the work of an encoder on a part of its inputs; see `ExtractionOptions` for `part`.

        Raises:
            ExtractionError: The data set has no image of the chosen streams.
        """
        inputs = choice.inputs(manifest, encoder)
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


def _in_part(keys: pd.Index, part: tuple[int, int]) -> np.ndarray:
    """Return a mask (N,) of the keys that belong to the i-th of n parts."""
    number, parts = part
    numbers = np.array([int(key[:8], 16) for key in keys], dtype=np.int64)
    return numbers % parts == number - 1


def _keys(index: pd.Index) -> np.ndarray:
    return key_array(map(bytes.fromhex, index))
