"""The networks behind the encoders, as torch modules: the same ones encode for the store and, unfrozen, train end to end."""

from typing import Any, Self

import timm
import torch
import transformers
from timm.models import group_parameters
from torch import Tensor, nn

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.folding import fold_batch_norms
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.state_dicts import load_into
from tier4k.extract.encoders.timm_models import timm_config
from tier4k.extract.images.preprocessing import Preprocessing

transformers.logging.set_verbosity_error()

transformers.logging.disable_progress_bar()


class ImageNetwork(nn.Module):
    """Prepared pictures (B, 3, H, W) uint8 -> features (B, D) float32.

    Args:
        backbone: A timm network without its classifier.
        preparation: Whose mean and standard deviation are applied.
        levels: The parts of multilevel features; None for the pooled output.
    """

    mean: Tensor
    std: Tensor
    backbone: Any

    def __init__(
        self, backbone: nn.Module, preprocessing: Preprocessing, levels: Levels | None = None
    ) -> None:
        super().__init__()
        self.levels = levels
        # Convolutions run faster with the channels innermost; the numbers stay the same up to rounding.
        self.memory_format = torch.channels_last
        self.backbone = backbone.to(memory_format=self.memory_format)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def of(cls, encoder: ImageEncoder) -> "ImageNetwork":
        """Build and load, in evaluation mode."""
        preset = encoder.preset
        backbone = timm.create_model(preset.architecture, pretrained=False, num_classes=0)
        classifier = str(timm_config(preset.architecture).classifier)
        by_order = preset.package is not None and encoder.weights.sha256 == preset.package.sha256
        load_into(backbone, encoder.weights.path, classifier, by_order)
        if preset.feature == "class-token-before-norm":
            # timm's vision transformers apply `norm` to all tokens and then take the class token; without it, that token is raw.
            backbone.norm = nn.Identity()
        levels = preset.require_levels() if encoder.feature == "multilevel" else None
        return cls(backbone, encoder.preprocessing, levels).eval()

    def frozen(self, precision: Precision) -> Self:
        """This network made ready for encoding only: batch normalisation folded into convolutions, weights cast once to `precision`."""
        fold_batch_norms(self.backbone)
        self.backbone.to(DTYPES[precision])
        return with_onednn(self).requires_grad_(False)

    def channels_first(self) -> Self:
        """This network with channels outermost, as torch has them unless told otherwise, so that sums are rounded as in published code."""
        self.memory_format = torch.contiguous_format
        self.backbone.to(memory_format=self.memory_format)
        return self

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters of each stage or block, from the input to the output."""
        parameters = dict(self.backbone.named_parameters())
        groups = group_parameters(self.backbone, self.backbone.group_matcher(coarse=True))
        return [[parameters[name] for name in groups[number]] for number in sorted(groups)]

    def forward(self, pictures: Tensor) -> Tensor:
        """Features of prepared pictures: normalised here, so that only bytes travel to the device."""
        normalised = ((pictures.float() / 255 - self.mean) / self.std).to(
            next(self.backbone.parameters()).dtype
        )
        inputs = normalised.contiguous(memory_format=self.memory_format)
        if self.levels is None:
            return self.backbone(inputs).float()
        if "class" in self.levels.statistics:
            return self._token_statistics(inputs, self.levels)
        return self._map_statistics(inputs, self.levels)

    def _map_statistics(self, inputs: Tensor, levels: Levels) -> Tensor:
        """Mean and standard deviation over positions of every stage, and of the map before the classifier where it is a level."""
        last, maps = self.backbone.forward_intermediates(inputs, output_fmt="NCHW")
        maps = [*maps, last] if levels.names[-1] == "head" else maps
        parts = [torch.var_mean(values.float(), dim=(2, 3), correction=0) for values in maps]
        return torch.cat([part for variance, mean in parts for part in (mean, _root(variance))], dim=1)

    def _token_statistics(self, inputs: Tensor, levels: Levels) -> Tensor:
        """Class token, mean and standard deviation of the patch tokens of some blocks."""
        blocks = [int(name.removeprefix("block")) - 1 for name in levels.names]
        tokens = self.backbone.forward_intermediates(
            inputs, indices=blocks, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
        )
        parts = []
        for patches, prefix in tokens:
            variance, mean = torch.var_mean(patches.float(), dim=1, correction=0)
            parts += [prefix[:, 0].float(), mean, _root(variance)]
        return torch.cat(parts, dim=1)


def _root(variance: Tensor) -> Tensor:
    """The square root, with slope 0 instead of infinity at 0, where a channel is the same everywhere."""
    positive = variance > 0
    return torch.where(positive, torch.where(positive, variance, 1).sqrt(), 0)
