"""Image encoders as torch modules, which encode for a store or, unfrozen, are trained end to end."""

from typing import Any, Self

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from tier4k.extract.encoders.batch_norm_folding import fold_batch_norms
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.state_dicts import load_into
from tier4k.extract.encoders.timm_models import timm_config
from tier4k.extract.images.preprocessing import Preprocessing


class ImageNetwork(nn.Module):
    """Computes features (B, D) float32 of preprocessed images (B, 3, H, W) uint8.

    Args:
        backbone: A timm network without its classifier.
        preprocessing: Mean and standard deviation of the pixels. The network applies both, so that images are
            sent to the device as bytes.
        levels: Levels of multilevel features; None for the pooled output.
    """

    mean: Tensor
    std: Tensor
    backbone: Any

    def __init__(
        self,
        backbone: nn.Module,
        preprocessing: Preprocessing,
        levels: Levels | None = None,
    ) -> None:
        super().__init__()
        self.levels = levels
        # Convolutions are faster with channels innermost; features stay the same up to rounding.
        self.memory_format = torch.channels_last
        self.backbone = backbone.to(memory_format=self.memory_format)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def of(cls, encoder: ImageEncoder) -> "ImageNetwork":
        """Build the network of an encoder and load its weights, in evaluation mode.

        Raises:
            WeightsError: The weights do not fit.
        """
        preset = encoder.preset
        backbone = timm.create_model(preset.architecture, pretrained=False, num_classes=0)
        classifier = str(timm_config(preset.architecture).classifier)
        by_order = preset.package is not None and encoder.weights.sha256 == preset.package.sha256
        load_into(backbone, encoder.weights.path, classifier, by_order)
        if preset.feature == "class-token-before-norm":
            # timm's vision transformers apply `norm` to all tokens, then take the class token. Without
            # `norm`, the class token is the raw one.
            backbone.norm = nn.Identity()
        levels = preset.require_levels() if encoder.feature == "multilevel" else None
        return cls(backbone, encoder.preprocessing, levels).eval()

    def frozen(self, precision: Precision) -> Self:
        """Prepare this network for encoding only: fold batch norms and cast weights to `precision`."""
        fold_batch_norms(self.backbone)
        self.backbone.to(DTYPES[precision])
        return with_onednn(self).requires_grad_(False)

    def channels_first(self) -> Self:
        """Store channels outermost, torch's default, so that sums are rounded as in the published code."""
        self.memory_format = torch.contiguous_format
        self.backbone.to(memory_format=self.memory_format)
        return self

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each stage or block, from input to output."""
        parameters = dict(self.backbone.named_parameters())
        groups = group_parameters(self.backbone, self.backbone.group_matcher(coarse=True))
        layers = []
        for number in sorted(groups):
            layers.append([parameters[name] for name in groups[number]])
        return layers

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, D) of preprocessed images (B, 3, H, W) uint8."""
        normalised = (images.float() / 255 - self.mean) / self.std
        dtype = next(self.backbone.parameters()).dtype
        inputs = normalised.to(dtype).contiguous(memory_format=self.memory_format)
        if self.levels is None:
            return self.backbone(inputs).float()
        if "class" in self.levels.statistics:
            return self._token_statistics(inputs, self.levels)
        return self._map_statistics(inputs, self.levels)

    def _map_statistics(self, inputs: Tensor, levels: Levels) -> Tensor:
        """Return mean and deviation over positions of every stage, and of the last map if it is a level."""
        last, maps = self.backbone.forward_intermediates(inputs, output_fmt="NCHW")
        if levels.names[-1] == "head":
            maps = [*maps, last]
        parts = []
        for values in maps:
            variance, mean = torch.var_mean(values.float(), dim=(2, 3), correction=0)
            parts.append(mean)
            parts.append(_root(variance))
        return torch.cat(parts, dim=1)

    def _token_statistics(self, inputs: Tensor, levels: Levels) -> Tensor:
        """Return the class token, and mean and deviation of the patch tokens, of the blocks in `levels`."""
        blocks = [int(name.removeprefix("block")) - 1 for name in levels.names]
        tokens = self.backbone.forward_intermediates(
            inputs,
            indices=blocks,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        parts = []
        for patches, prefix in tokens:
            variance, mean = torch.var_mean(patches.float(), dim=1, correction=0)
            parts.append(prefix[:, 0].float())
            parts.append(mean)
            parts.append(_root(variance))
        return torch.cat(parts, dim=1)


def _root(variance: Tensor) -> Tensor:
    """Return the square root. Its gradient at 0, where a channel is constant, is 0 instead of infinity."""
    positive = variance > 0
    return torch.where(positive, torch.where(positive, variance, 1).sqrt(), 0)
