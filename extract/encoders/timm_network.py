"""Image encoders of timm."""

import timm
from timm.models import group_parameters
from torch import Tensor, nn

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.image_network import ImageNetwork, LevelOutput
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.timm_models import timm_config
from tier4k.extract.weights.checkpoints import load_into


class TimmNetwork(ImageNetwork):
    """Computes features of images with a network of timm."""

    @classmethod
    def of(cls, encoder: ImageEncoder) -> "TimmNetwork":
        """Build the network of an encoder and load its weights, in evaluation mode.

        Raises:
            WeightsError: The weights do not fit.
        """
        preset = encoder.preset
        config = timm_config(preset.architecture)
        projects = preset.feature == "projection"  # CLIP's projection is what timm calls its classifier
        classes = config.num_classes if projects else 0
        backbone = timm.create_model(preset.architecture, pretrained=False, num_classes=classes)
        classifier = "" if projects else str(config.classifier)
        package = preset.weights.package
        by_order = package is not None and encoder.weights.sha256 == package.sha256
        load_into(backbone, encoder.weights.path, classifier, by_order)
        if preset.feature == "class-token-before-norm":
            # timm's vision transformers apply `norm` to all tokens, then take the class token. Without
            # `norm`, the class token is the raw one.
            backbone.norm = nn.Identity()
        levels = preset.require_levels() if encoder.feature == "multilevel" else None
        return cls(backbone, encoder.preprocessing, levels).eval()

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each stage or block, from input to output."""
        parameters = dict(self.backbone.named_parameters())
        groups = group_parameters(self.backbone, self.backbone.group_matcher(coarse=True))
        layers = []
        for number in sorted(groups):
            layers.append([parameters[name] for name in groups[number]])
        return layers

    def recompute_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.backbone.set_grad_checkpointing(True)

    def _pooled(self, inputs: Tensor) -> Tensor:
        return self.backbone(inputs)

    def _level_outputs(self, inputs: Tensor, levels: Levels) -> list[LevelOutput]:
        if "class" in levels.statistics:
            return self._block_outputs(inputs, levels)
        return self._stage_outputs(inputs, levels)

    def _stage_outputs(self, inputs: Tensor, levels: Levels) -> list[LevelOutput]:
        """Return the map of every stage, and the last map if it is a level."""
        last, maps = self.backbone.forward_intermediates(inputs, output_fmt="NCHW")
        if levels.names[-1] == "head":
            maps = [*maps, last]
        return [LevelOutput(stage_map) for stage_map in maps]

    def _block_outputs(self, inputs: Tensor, levels: Levels) -> list[LevelOutput]:
        """Return the class token and the patch tokens of the blocks in `levels`."""
        blocks = [int(name.removeprefix("block")) - 1 for name in levels.names]
        tokens = self.backbone.forward_intermediates(
            inputs,
            indices=blocks,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        return [LevelOutput(patches, prefix[:, 0]) for patches, prefix in tokens]
