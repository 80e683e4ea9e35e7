"""Image encoders of transformers."""

import re
from typing import Any

from torch import Tensor, nn

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.image_network import ImageNetwork, LevelOutput
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.transformers_families import VisionModel, keep_windows, vision_model
from tier4k.extract.encoders.transformers_loading import load_transformer, recompute_activations
from tier4k.extract.images.preprocessing import Preprocessing

LAYER = re.compile(r"(?:^|\.)(?:layers?|stages|blocks?)\.(\d+)\.")


class TransformersNetwork(ImageNetwork):
    """Computes features of images with a vision model of transformers.

    Args:
        backbone: The network.
        model: Description of the network.
        preprocessing, levels: As for `ImageNetwork`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        model: VisionModel,
        preprocessing: Preprocessing,
        levels: Levels | None = None,
    ) -> None:
        super().__init__(backbone, preprocessing, levels)
        self.model = model
        if model.has_windows:
            keep_windows(self.backbone)

    @classmethod
    def of(cls, encoder: ImageEncoder) -> "TransformersNetwork":
        """Build the network of an encoder and load its weights, in evaluation mode.

        Raises:
            WeightsError: The weights do not fit.
        """
        folder = encoder.weights.path
        model = vision_model(folder)
        options: dict[str, Any] = {"config": model.config, **dict(model.family.options)}
        backbone = load_transformer(model.model_class, folder, "image", **options)
        levels = encoder.preset.require_levels() if encoder.feature == "multilevel" else None
        return cls(backbone, model, encoder.preprocessing, levels).eval()

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the embeddings, then of each block or stage.

        The last block comes with the last norm and the pooling head. Mask tokens are unused.
        """
        layers: list[list[nn.Parameter]] = [[]]
        for name, parameter in self.backbone.named_parameters():
            if name.endswith("mask_token"):
                continue
            match = LAYER.search(name)
            number = int(match.group(1)) + 1 if match else len(layers) - 1
            while number >= len(layers):
                layers.append([])
            layers[number].append(parameter)
        return [layer for layer in layers if layer]

    def recompute_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        recompute_activations(self.backbone)

    def _pooled(self, inputs: Tensor) -> Tensor:
        return self.model.embedding(self.model.outputs(self.backbone, inputs))

    def _level_outputs(self, inputs: Tensor, levels: Levels) -> list[LevelOutput]:
        states = self.model.hidden_states(self.model.outputs(self.backbone, inputs, levels=True))
        if states[0].ndim == 4:
            return [LevelOutput(state) for state in states]
        blocks = [states[int(name.removeprefix("block")) - 1] for name in levels.names]
        return [self._block_output(tokens) for tokens in blocks]

    def _block_output(self, tokens: Tensor) -> LevelOutput:
        patches = tokens[:, self.model.tokens_before_patches :]
        return LevelOutput(patches, tokens[:, 0] if self.model.family.class_token else None)
