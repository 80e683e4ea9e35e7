"""Image encoders as torch modules, which encode for a store or, unfrozen, are trained end to end."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from tier4k.extract.encoders.batch_norm_folding import fold_batch_norms, has_batch_norms
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.fused_layers import fuse_residual_blocks, replace_quick_gelu
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.precision import DTYPES, at_least_float32
from tier4k.extract.images.preprocessing import Preprocessing, nearest_multiple

# Largest difference between a level with and without folding, relative to the largest value of the level.
# Rounding alone causes less. Folding into a convolution whose output is a level causes more.
FOLDING_TOLERANCE = 1e-2
WHOLE_PROBE_SIDE = 224  # pixels; for networks that encode whole images


@dataclass(frozen=True)
class LevelOutput:
    """The output of one level of a network.

    Attributes:
        positions: Map (B, C, H, W) of a CNN, or patch tokens (B, N, C) of a transformer.
        class_token: (B, C); None where the network has none.
    """

    positions: Tensor
    class_token: Tensor | None = None

    def statistics(self) -> list[Tensor]:
        """Return the class token if there is one, and mean and deviation over positions, each (B, C)."""
        axes = (2, 3) if self.positions.ndim == 4 else 1
        variance, mean = torch.var_mean(at_least_float32(self.positions), dim=axes, correction=0)
        spread = [mean, _root(variance)]
        if self.class_token is None:
            return spread
        return [at_least_float32(self.class_token), *spread]


class ImageNetwork(nn.Module, ABC):
    """Computes features (B, D) float32 of preprocessed images (B, 3, H, W) uint8.

    Each library has one subclass.

    Args:
        backbone: A network without its classifier.
        preprocessing: Preprocessing of the images. The network applies its mean and standard deviation, so
            that images are sent to the device as bytes.
        levels: Levels of multilevel features; None for the pooled output.
    """

    mean: Tensor
    std: Tensor
    backbone: Any
    notes: tuple[str, ...] = ()  # what the user should know about the weights

    def __init__(
        self,
        backbone: nn.Module,
        preprocessing: Preprocessing,
        levels: Levels | None = None,
    ) -> None:
        super().__init__()
        self.levels = levels
        self._probe_side = preprocessing.size or nearest_multiple(WHOLE_PROBE_SIDE, preprocessing.multiple)
        # Convolutions are faster with channels innermost; features stay the same up to rounding.
        self.memory_format = torch.channels_last
        self.backbone = backbone.to(memory_format=self.memory_format)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    def frozen(self, precision: Precision) -> Self:
        """Prepare this network for encoding only: fold batch norms, fuse layers, cast to `precision`."""
        self._fold_batch_norms()
        fuse_residual_blocks(self.backbone)
        replace_quick_gelu(self.backbone)
        self.backbone.to(DTYPES[precision])
        return with_onednn(self).requires_grad_(False)

    def _fold_batch_norms(self) -> None:
        """Fold batch norms, unless folding changes a level.

        A level may be the output of a convolution before its batch norm. Folding changes this output, and an
        activation that works in place then overwrites it.
        """
        if not has_batch_norms(self.backbone):
            return  # a large transformer need not be traced and copied
        if self.levels is None:
            fold_batch_norms(self.backbone)
            return
        if not self.levels.folded:
            return
        folded = copy.deepcopy(self.backbone)
        if not fold_batch_norms(folded):
            return
        if _are_equal_levels(self._probe(folded), self._probe(self.backbone), self.levels):
            self.backbone = folded

    @property
    @torch.inference_mode()
    def width(self) -> int:
        """Length D of the features, for which a network without levels encodes one image."""
        if self.levels is not None:
            return self.levels.width
        weight = next(self.backbone.parameters())
        side = self._probe_side
        image = torch.zeros(1, 3, side, side, dtype=weight.dtype, device=weight.device)
        return self._pooled(image.contiguous(memory_format=self.memory_format)).shape[1]

    @torch.inference_mode()
    def _probe(self, backbone: nn.Module) -> Tensor:
        """Return the features (1, D) that a backbone computes from an image of pseudo-random pixels.

        A copy of the backbone computes them, because modules may cache tensors of this precision.
        """
        generator = torch.Generator().manual_seed(0)
        shape = (1, 3, self._probe_side, self._probe_side)
        image = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        own_backbone = self.backbone
        self.backbone = copy.deepcopy(backbone)
        features = self(image)
        self.backbone = own_backbone
        return features

    def channels_first(self) -> Self:
        """Store channels outermost, torch's default, so that sums are rounded as in the published code."""
        self.memory_format = torch.contiguous_format
        self.backbone.to(memory_format=self.memory_format)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, D) of preprocessed images (B, 3, H, W) uint8, or floats from 0 to 255."""
        dtype = next(self.backbone.parameters()).dtype
        inputs = self._normalised(images).to(dtype).contiguous(memory_format=self.memory_format)
        if self.levels is None:
            return at_least_float32(self._pooled(inputs))
        parts: list[Tensor] = []
        for output in self._level_outputs(inputs, self.levels):
            parts.extend(output.statistics())
        return torch.cat(parts, dim=1)

    def _normalised(self, images: Tensor) -> Tensor:
        """Return images with the preprocessing's mean 0 and standard deviation 1."""
        return (at_least_float32(images) / 255 - self.mean) / self.std

    @classmethod
    @abstractmethod
    def of(cls, encoder: ImageEncoder) -> "ImageNetwork":
        """Build the network of an encoder and load its weights, in evaluation mode.

        Raises:
            WeightsError: The weights do not fit.
        """

    @abstractmethod
    def layers(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each stage or block, from input to output."""

    @abstractmethod
    def recompute_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them.

        Raises:
            AssertionError, AttributeError, ValueError: The library cannot do so for this network.
        """

    @abstractmethod
    def _pooled(self, inputs: Tensor) -> Tensor:
        """Return the pooled output (B, D) of normalised images (B, 3, H, W)."""

    @abstractmethod
    def _level_outputs(self, inputs: Tensor, levels: Levels) -> Sequence[LevelOutput]:
        """Return the output of each level of normalised images (B, 3, H, W), from input to output."""


def _are_equal_levels(
    found: Tensor,
    expected: Tensor,
    levels: Levels,
) -> bool:
    """Return whether two features (B, D) are equal up to rounding in every level."""
    widths = [width * len(levels.statistics) for width in levels.widths]
    for found_level, expected_level in zip(found.split(widths, 1), expected.split(widths, 1), strict=True):
        difference = (found_level - expected_level).abs().max()
        if not difference <= FOLDING_TOLERANCE * expected_level.abs().max():
            return False
    return True


def _root(variance: Tensor) -> Tensor:
    """Return the square root (B, C). Its gradient at 0, where a channel is constant, is 0, not infinity."""
    positive = variance > 0
    return torch.where(positive, torch.where(positive, variance, 1).sqrt(), 0)
