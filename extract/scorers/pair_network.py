"""The interface of all networks that score pairs of an image and a text."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.precision import DTYPES, at_least_float32
from tier4k.extract.encoders.text_tokenizer import TextTokenizer
from tier4k.extract.images.preprocessing import CLIP_MEAN, CLIP_STD
from tier4k.extract.scorers.scorer import Scorer
from tier4k.extract.weights.files import WeightsError


class PairNetwork(nn.Module, ABC):
    """Scores pairs of an image and a text. Each image and each text is encoded once for all its pairs.

    Args:
        backbone: Network of images and texts.
        tokenizer: Tokenizer of the network's texts, which truncates them.
        side: Side in pixels of the square images that the network accepts.
    """

    mean: Tensor
    std: Tensor
    notes: tuple[str, ...] = ()
    width = 1  # a pair has one score

    def __init__(
        self,
        backbone: nn.Module,
        tokenizer: TextTokenizer,
        side: int,
    ) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.tokenizer = tokenizer
        self.side = side
        self.register_buffer("mean", _per_channel(CLIP_MEAN), persistent=False)
        self.register_buffer("std", _per_channel(CLIP_STD), persistent=False)

    @classmethod
    @abstractmethod
    def of(cls, scorer: Scorer) -> Self:
        """Build the network and load its weights, in evaluation mode.

        Raises:
            WeightsError: The weights do not fit.
        """

    @staticmethod
    @abstractmethod
    def load_tokenizer(scorer: Scorer) -> Any:
        """Load the tokenizer of a scorer, of transformers.

        Raises:
            WeightsError: Its files are damaged.
        """

    @staticmethod
    def truncating(tokenizer: Any, scorer: Scorer) -> TextTokenizer:
        """Return a tokenizer of transformers that truncates texts as the scorer reads them."""
        return TextTokenizer(tokenizer, scorer.preset.tokens)

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return T encoded texts (T, ...), each encoded without an image."""

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Return encoded images (P, ...) of preprocessed images (P, 3, side, side) uint8, without texts."""

    @abstractmethod
    def score(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return the scores (N,) float32 of N pairs, from N encoded images and N encoded texts."""

    def frozen(self, precision: Precision) -> Self:
        """Prepare this network for scoring only: cast weights to `precision`."""
        self.backbone.to(DTYPES[precision])
        return with_onednn(self).requires_grad_(False)

    def _normalised(self, images: Tensor) -> Tensor:
        dtype = next(self.backbone.parameters()).dtype
        return ((at_least_float32(images) - self.mean) / self.std).to(dtype)

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        """Return token numbers and attention mask of texts, (T, 2, L) int64."""
        batch = self.tokenizer(texts)
        return torch.stack([batch.ids, batch.mask], dim=1).to(self.mean.device, non_blocking=True)


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1) * 255


def require_vocabulary(
    tokenizer: Any,
    size: int,
    scorer: Scorer,
) -> None:
    """Require a tokenizer with as many tokens as the network has embeddings.

    Raises:
        WeightsError: They differ.
    """
    if len(tokenizer) != size:
        raise WeightsError(
            f"the tokenizer in {scorer.tokenizer.path} has {len(tokenizer):,} tokens, but the network "
            f"in {scorer.weights.path} has {size:,}: take both from one download"
        )
