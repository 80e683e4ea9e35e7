"""Image encoders of timm."""

from timm.models import group_parameters
from torch import Tensor, nn

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.image_network import ImageNetwork, LevelOutput
from tier4k.extract.encoders.initial_weights import UndefinedInitialWeights
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.timm_models import create_network
from tier4k.extract.encoders.timm_weights import load_timm_weights


class TimmNetwork(ImageNetwork):
    """Computes features of images with a network of timm."""

    @classmethod
    def of(cls, encoder: ImageEncoder) -> "TimmNetwork":
        """Build the network of an encoder and load its weights, in evaluation mode.

        Raises:
            WeightsError: The weights do not fit.
        """
        preset = encoder.preset
        with UndefinedInitialWeights():
            backbone = create_network(
                preset.architecture,
                uncropped=encoder.preprocessing.size is None,
                projects=preset.feature == "projection",
            )
        # The package of efficientnet-lite0 has timm's tensors in timm's order under other names.
        package = preset.weights.package
        by_order = package is not None and encoder.weights.sha256 == package.sha256
        notes = load_timm_weights(backbone, preset.architecture, encoder.weights.path, by_order)
        if preset.feature == "class-token-before-norm":
            # timm's vision transformers apply `norm` to all tokens, then take the class token.
            backbone.norm = nn.Identity()
        levels = preset.require_levels() if encoder.feature == "multilevel" else None
        network = cls(backbone, encoder.preprocessing, levels).eval()
        network.notes = notes
        return network

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
        """Return the map of every stage, and the map before the classifier if it is a level."""
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
