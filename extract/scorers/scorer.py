"""Zero-shot scorers: frozen descriptions with a signature, which load into networks when there is something to score."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.weights import Weights
from tier4k.extract.images.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing, native
from tier4k.extract.scorers.presets import ScorerPreset

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Scorer:
    """A scorer with its weights found, not yet loaded.

    Attributes:
        preset: What it is.
        weights: A checkpoint file, or a folder.
        tokenizer: Folder of its tokenizer, or file of its vocabulary.
        precision: Arithmetic of the network; scores are stored in float32 all the same.
    """

    preset: ScorerPreset
    weights: Weights
    tokenizer: Weights
    precision: Precision = "fp32"

    def preprocessing(self, side: int) -> Preprocessing:
        """How pictures are prepared for a network that takes squares of `side` pixels."""
        return native(side, side, CLIP_MEAN, CLIP_STD, "bicubic", self.preset.crop)

    @property
    def signature(self) -> Signature:
        """What makes the scores what they are. The side of the pictures is the network's, and known with its weights."""
        preset, both = (
            self.preset,
            hashlib.sha256(f"{self.weights.sha256}\n{self.tokenizer.sha256}".encode()).hexdigest(),
        )
        how = "shorter side and centre crop at the network's side, bicubic" + (
            ", margins rounded down" if preset.crop == "floor" else ""
        )
        preprocessing = f"native: {how}, CLIP's mean and std; texts of at most {preset.tokens} tokens"
        return Signature(
            "score", preset.name, preset.architecture, both, preprocessing, preset.point, self.precision
        )
