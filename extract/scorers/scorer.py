"""A zero-shot scorer: a frozen description with a signature, loaded as a network by load_scorer_network."""

import hashlib
from dataclasses import dataclass

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.images.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing, native
from tier4k.extract.scorers.presets import ScorerPreset
from tier4k.extract.weights.files import Weights


@dataclass(frozen=True)
class Scorer:
    """A scorer with its weights found, not yet loaded.

    Attributes:
        preset: The published scorer.
        weights: A checkpoint file, or a folder.
        tokenizer: Folder of its tokenizer, or file of its vocabulary.
        precision: Arithmetic of the network. Scores are always stored in float32: one number a pair takes
            less space than the key of the pair, and float16 would give different pairs equal scores.
    """

    preset: ScorerPreset
    weights: Weights
    tokenizer: Weights
    precision: Precision = "fp32"

    @property
    def reads_prompts(self) -> bool:
        """Whether the scores depend on the prompts: they do."""
        return True

    def preprocessing(self, side: int) -> Preprocessing:
        """Preprocessing of images for a network that takes squares of `side` pixels."""
        return native(side, side, CLIP_MEAN, CLIP_STD, "bicubic", self.preset.crop)

    @property
    def signature(self) -> Signature:
        """Everything that the scores depend on; the side of the images follows from the weights."""
        return Signature(
            "score",
            self.preset.name,
            self.preset.architecture,
            self._hash_of_files(),
            self._preprocessing_text(),
            self.preset.feature_point,
            self.precision,
        )

    def _hash_of_files(self) -> str:
        hashes = f"{self.weights.sha256}\n{self.tokenizer.sha256}"
        return hashlib.sha256(hashes.encode()).hexdigest()

    def _preprocessing_text(self) -> str:
        # This text is hashed: to change it is to score everything again.
        margins = ", margins rounded down" if self.preset.crop == "floor" else ""
        crop = f"shorter side and centre crop at the network's side, bicubic{margins}"
        return f"native: {crop}, CLIP's mean and std; texts of at most {self.preset.tokens} tokens"
