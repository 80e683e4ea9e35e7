"""Encoders that stay loaded and return features of images and texts in memory. Nothing is stored."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tier4k.cache.keys import bytes_key
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.load import load_image_network
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.decode import ImageError, decode, read_bytes, require_8_bits
from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.chunks import Chunk, stack_by_shape
from tier4k.extract.pipeline.device import choose_device
from tier4k.extract.pipeline.encode import ImageChunkEncoder
from tier4k.extract.pipeline.float32 import full_float32
from tier4k.extract.pipeline.read import ImageCropper, ImageVariant

BATCH = 32

ImageInput = str | Path | Image.Image | np.ndarray | torch.Tensor


def as_image(value: ImageInput) -> tuple[Image.Image, bytes]:
    """Return an RGB image and its key, which seeds random crops.

    Args:
        value: A path; a PIL image; an array (H, W, 3), (H, W, 4) or (H, W); or a tensor (3, H, W), as
            torchvision returns. Arrays and tensors are uint8 from 0 to 255 or floats from 0 to 1.

    Raises:
        ImageError: The value is not an image, or cannot be decoded.
    """
    if isinstance(value, str | Path):
        return _from_file(Path(value))
    if isinstance(value, torch.Tensor):
        value = _channels_last(value)
    if isinstance(value, np.ndarray):
        value = _from_array(value)
    if not isinstance(value, Image.Image):
        accepted = "pass a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W)"
        raise ImageError(f"a value of type {type(value).__name__} is not an image: {accepted}")
    require_8_bits(value)
    image = value.convert("RGB")
    return image, bytes_key(image.tobytes())


def _from_file(path: Path) -> tuple[Image.Image, bytes]:
    try:
        data = read_bytes(path)
        return decode(data), bytes_key(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def _channels_last(value: torch.Tensor) -> np.ndarray:
    if value.ndim != 3 or value.shape[0] not in (1, 3):
        raise ImageError(
            f"a tensor of shape {tuple(value.shape)} is not an image: pass one of shape (3, H, W)"
        )
    pixels = value.detach().cpu().permute(1, 2, 0)
    if pixels.is_floating_point():
        pixels = pixels.float()
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return pixels.numpy()


def _from_array(array: np.ndarray) -> Image.Image:
    if not _has_shape_of_image(array):
        expected = "(H, W, 3), (H, W, 4) or (H, W)"
        raise ImageError(f"an array of shape {array.shape} is not an image: pass one of shape {expected}")
    if np.issubdtype(array.dtype, np.floating):
        array = _to_8_bits(array)
    if array.dtype != np.uint8:
        raise ImageError(
            f"pixels of type {array.dtype} are not supported: pass uint8 from 0 to 255, or floats from 0 to 1"
        )
    return Image.fromarray(array)


def _has_shape_of_image(array: np.ndarray) -> bool:
    if 0 in array.shape:
        return False
    if array.ndim == 3:
        return array.shape[-1] in (3, 4)
    return array.ndim == 2


def _to_8_bits(array: np.ndarray) -> np.ndarray:
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):  # both comparisons are false for NaN
        remedy = "divide the pixels by 255, or pass uint8"
        raise ImageError(f"floating-point pixels must be from 0 to 1, not {low:g} to {high:g}: {remedy}")
    return np.round(array * 255).astype(np.uint8)


class LiveEncoders:
    """An image encoder and a text encoder, whose networks are loaded on first use.

    Args:
        image: Image encoder with its weights.
        text: Text encoder with its weights.
        device: "auto", or a torch device such as "cuda:1".

    Raises:
        ExtractionError: The device cannot be used.
    """

    def __init__(
        self,
        image: ImageEncoder,
        text: TextEncoder,
        device: str = "auto",
    ) -> None:
        self._image = image
        self._text = text
        self._device = choose_device(device)
        self._variant = ImageVariant(image.preprocessing, image.crops)
        self._crop = ImageCropper(self._variant)

    @cached_property
    def image_network(self) -> ImageNetwork:
        """Network of the image encoder."""
        return load_image_network(self._image).frozen(self._image.precision).to(self._device)

    @cached_property
    def text_network(self) -> TextNetwork:
        """Network of the text encoder."""
        return TextNetwork.of(self._text).frozen(self._text.precision).to(self._device)

    def images(self, images: Sequence[ImageInput]) -> np.ndarray:
        """Return the features (N, D) of N images, or (N, V, D) for V > 1 crops each; see `as_image`.

        Raises:
            ImageError: A value is not an image.
            ExtractionError: The device has too little memory.
        """
        size = BatchSize(BATCH, self._device.type)
        encoder = ImageChunkEncoder(self.image_network, 0, self._variant.crop_count, size, self._device)
        with full_float32(), torch.inference_mode():
            parts = [self._encode_batch(encoder, batch) for batch in _batches(images)]
        return np.concatenate(parts)

    def _encode_batch(self, encoder: ImageChunkEncoder, images: Sequence[ImageInput]) -> np.ndarray:
        crops = [self._crop(*as_image(image)) for image in images]
        chunk = Chunk(np.arange(len(crops)), (stack_by_shape(crops),))
        return encoder.features(chunk, np.ones(len(crops), bool))

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return the features (N, D) of texts; each distinct text is encoded once."""
        distinct = list(dict.fromkeys(texts))
        network = self.text_network
        parts = []
        with full_float32(), torch.inference_mode():
            for part in _batches(distinct):
                tokens = network.tokenize(part).to(self._device)
                parts.append(network(tokens).cpu().numpy())
        return np.concatenate(parts)[[distinct.index(text) for text in texts]]


def _batches(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + BATCH] for start in range(0, len(values), BATCH)]
