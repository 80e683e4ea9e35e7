"""Networks whose outputs are differentiable functions of the pixels of images."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.images.resize_tensor import resize_floats
from tier4k.extract.pipeline.arithmetic import arithmetic, require_precision
from tier4k.extract.pipeline.given_images import group_by_shape, is_planes, range_errors
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.scorers.scorer import Scorer


class DifferentiableNetwork:
    """A network of an encoder or a scorer with its preprocessing, which does not round pixels to bytes.

    Layers are not fused as in an extraction, so that outputs differ from stored features by rounding.

    Args:
        encoder: An image encoder without random crops, or a scorer.
        device: The torch device.
        batch_size: Number of images that go through the network at once.

    Attributes:
        network: The network, whose parameters need no gradient.

    Raises:
        ExtractionError: The device cannot compute in the encoder's precision.
        WeightsError: The weights do not fit.
    """

    def __init__(
        self,
        encoder: ImageEncoder | Scorer,
        device: torch.device,
        batch_size: int,
    ) -> None:
        require_precision(encoder.precision, device)
        self.network: Any = load_network(encoder).eval().requires_grad_(False)
        if DTYPES[encoder.precision] != torch.float32:
            self.network.backbone.to(DTYPES[encoder.precision])
        self.network.to(device)
        self._precision = encoder.precision
        self._device = device
        self._batch_size = batch_size
        self._preprocessing = _preprocessing(encoder, self.network)
        self._encoding = threading.Lock()  # because networks may keep values of their last call

    def outputs(
        self,
        images: Sequence[Tensor],
        encode: Callable[[list[int], Tensor], Tensor],
    ) -> Tensor:
        """Return the outputs (N, ...) of N images, with a graph where the images need a gradient.

        Args:
            images: Floats (3, H, W) from 0 to 1 on the device.
            encode: Returns outputs (B, ...), given the numbers of B images and the preprocessed images
                (B, 3, h, w), floats from 0 to 255.
        """
        places: list[int] = []
        outputs: list[Tensor] = []
        with self._encoding, arithmetic(self._precision, self._device):
            for numbers in _batches(images, self._batch_size):
                stacked = torch.stack([images[number] for number in numbers]) * 255
                height, width = stacked.shape[2:]
                geometry = self._preprocessing.geometry(width, height)
                crops = resize_floats(stacked, geometry, self._preprocessing.interpolation)
                outputs.append(encode(numbers, crops))
                places += numbers
        order = torch.tensor(places, device=self._device).argsort()
        return torch.cat(outputs)[order]


def float_images(images: Sequence[object], device: torch.device) -> list[Tensor]:
    """Return images as tensors (3, H, W) of floats from 0 to 1 on a device; gradients reach the images.

    Raises:
        ImageError: A value is no tensor (3, H, W) or (1, H, W) of floats from 0 to 1.
    """
    tensors: list[Tensor] = []
    for image in images:
        if not (isinstance(image, Tensor) and image.is_floating_point() and is_planes(image)):
            raise ImageError(
                "a reward with gradient=True needs tensors (3, H, W) of floats from 0 to 1, not "
                f"{_described(image)}"
            )
        if errors := range_errors(image[None]):
            raise errors[0]
        tensors.append(image.to(device).expand(3, -1, -1))
    return tensors


def _described(image: object) -> str:
    if isinstance(image, Tensor):
        return f"a tensor of type {image.dtype} and shape {tuple(image.shape)}"
    return f"a value of type {type(image).__name__}"


def _preprocessing(encoder: ImageEncoder | Scorer, network: Any) -> Preprocessing:
    return encoder.preprocessing(network.side) if isinstance(encoder, Scorer) else encoder.preprocessing


def _batches(images: Sequence[Tensor], size: int) -> list[list[int]]:
    """Return lists of at most `size` numbers of images with equal shape and type."""
    batches = []
    for numbers in group_by_shape(dict(enumerate(images))):
        batches += [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return batches
