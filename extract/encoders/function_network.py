"""Image encoders of users in code, as networks."""

import copy
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.image_network import ImageNetwork, LevelOutput
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.precision import at_least_float32
from tier4k.extract.encoders.user_functions import failures_named


class FunctionNetwork(ImageNetwork):
    """Computes features of images with a function of a user."""

    name: str
    _width = 0  # of the features that it returned first

    @classmethod
    def of(cls, encoder: ImageEncoder) -> "FunctionNetwork":
        """Return the network of an encoder. A torch module is copied: that of the user does not change."""
        function = encoder.function
        assert function is not None
        network = cls(_as_module(function.function), encoder.preprocessing).eval()
        network.name = function.name
        return network

    def frozen(self, precision: Precision) -> Self:  # noqa: ARG002
        """Prepare this network for encoding only; the function decides its precision."""
        return self.requires_grad_(False)

    @property
    @torch.inference_mode()
    def width(self) -> int:
        """Length D of the features; the function encodes two images to find it.

        Raises:
            EncoderError: The function fails, or does not return features (2, D).
        """
        side = self._probe_side
        images = torch.zeros(2, 3, side, side, dtype=torch.uint8, device=self.mean.device)
        return self(images).shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, D) of preprocessed images (B, 3, H, W).

        Raises:
            EncoderError: The function fails, or does not return D real features for each image.
        """
        normalised = self._normalised(images)
        with failures_named(f"the image encoder {self.name}", tuple(images.shape)):
            features = self.backbone(normalised)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
            returned = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise EncoderError(
                f"the image encoder {self.name} returns {returned} for {len(images)} images: return a "
                f"tensor of features ({len(images)}, D)"
            )
        width = features.shape[1]
        self._width = self._width or width
        if not width or width != self._width or features.is_complex():
            raise EncoderError(
                f"the image encoder {self.name} returns {width} features of {features.dtype} for each image, "
                f"and {self._width} for the first images: return as many real features for each, at least one"
            )
        features = at_least_float32(features)
        if wrong := int((~features.isfinite().all(dim=1)).sum()):
            raise EncoderError(
                f"the image encoder {self.name} returns NaN or infinity for {wrong} of {len(images)} images: "
                "return finite numbers of float32"
            )
        return features

    def layers(self) -> list[list[nn.Parameter]]:
        """Refuse finetuning.

        Raises:
            EncoderError: A function has no layers.
        """
        raise EncoderError(
            f"the image encoder {self.name} is a function, which cannot be finetuned: pass another "
            "--image-encoder"
        )

    def recompute_activations(self) -> None:
        """Refuse finetuning.

        Raises:
            ValueError: A function has no layers.
        """
        raise ValueError(f"the image encoder {self.name} is a function")

    def _pooled(self, inputs: Tensor) -> Tensor:
        return self.backbone(inputs)

    def _level_outputs(self, inputs: Tensor, levels: Levels) -> Sequence[LevelOutput]:
        raise NotImplementedError  # `find_image_encoder` refuses levels


class _FunctionModule(nn.Module):
    """A torch module of a function that is none."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images."""
        return self._function(images)


def _as_module(function: Callable[[Tensor], Tensor]) -> nn.Module:
    return copy.deepcopy(function) if isinstance(function, nn.Module) else _FunctionModule(function)
