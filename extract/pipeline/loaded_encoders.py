"""Encoders that stay loaded and return features of images and texts in memory. Nothing is stored."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tier4k.cache.keys import bytes_key
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.load import load_image_network
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.content import content_key
from tier4k.extract.images.decode import as_rgb, decode
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.places import read_bytes
from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.chunks import Chunk, stack_by_shape
from tier4k.extract.pipeline.device import choose_device
from tier4k.extract.pipeline.encode import ImageChunkEncoder
from tier4k.extract.pipeline.float32 import full_float32
from tier4k.extract.pipeline.read import ImageCropper, ImageVariant

BATCH = 32

ImageInput = str | Path | Image.Image | np.ndarray | torch.Tensor


def as_image(value: ImageInput) -> tuple[Image.Image, bytes]:
    """Return an RGB image, upright and composed over white, and its key, which seeds random crops.

    Args:
        value: A path or other place; a PIL image; an array (H, W, 3), (H, W, 4) or (H, W); or a tensor
            (3, H, W), (4, H, W) or (1, H, W), as torchvision returns. Arrays and tensors are uint8 from 0 to
            255 or floats from 0 to 1; a fourth channel is alpha.

    Raises:
        ImageError: The value is not an image, or cannot be decoded.
    """
    if isinstance(value, str | Path):
        return _from_place(value)
    if isinstance(value, torch.Tensor):
        value = _channels_last(value)
    if isinstance(value, np.ndarray):
        value = _from_array(value)
    if not isinstance(value, Image.Image):
        accepted = "pass a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W)"
        raise ImageError(f"a value of type {type(value).__name__} is not an image: {accepted}")
    image = as_rgb(value)
    return image, bytes_key(image.tobytes())


def _from_place(place: str | Path) -> tuple[Image.Image, bytes]:
    try:
        data = read_bytes(place)
        return decode(data), content_key(data)
    except ImageError as error:
        raise ImageError(f"{place}: {error}") from error


def _channels_last(value: torch.Tensor) -> np.ndarray:
    if value.ndim != 3 or value.shape[0] not in (1, 3, 4):
        raise ImageError(
            f"a tensor of shape {tuple(value.shape)} is not an image: pass one of shape (3, H, W) or "
            "(4, H, W)"
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
    """Image encoders and text encoders, whose networks are loaded on first use.

    Args:
        images: Image encoders with their weights, by name.
        texts: Text encoders with their weights, by name.
        device: "auto", or a torch device such as "cuda:1".

    Raises:
        ExtractionError: The device cannot be used.
    """

    def __init__(
        self,
        images: Mapping[str, ImageEncoder],
        texts: Mapping[str, TextEncoder],
        device: str = "auto",
    ) -> None:
        self._images = images
        self._texts = texts
        self._device = choose_device(device)
        self._variant_of = {
            name: ImageVariant(encoder.preprocessing, encoder.crops) for name, encoder in images.items()
        }
        self._variants = list(dict.fromkeys(self._variant_of.values()))
        self._croppers = list(map(ImageCropper, self._variants))

    @cached_property
    def image_networks(self) -> dict[str, ImageNetwork]:
        """Networks of the image encoders."""
        networks = {}
        for name, encoder in self._images.items():
            networks[name] = load_image_network(encoder).frozen(encoder.precision).to(self._device)
        return networks

    @cached_property
    def text_networks(self) -> dict[str, TextNetwork]:
        """Networks of the text encoders."""
        networks = {}
        for name, encoder in self._texts.items():
            networks[name] = TextNetwork.of(encoder).frozen(encoder.precision).to(self._device)
        return networks

    def images(self, images: Sequence[ImageInput]) -> dict[str, np.ndarray]:
        """Return the features of N images by the name of the encoder: (N, D), or (N, V, D) for V > 1 crops.

        Each image is decoded once for all encoders, and not at all if there is none; see `as_image`.

        Raises:
            ImageError: A value is not an image.
            ExtractionError: The device has too little memory.
        """
        encoders = {name: self._chunk_encoder(name, network) for name, network in self.image_networks.items()}
        parts: dict[str, list[np.ndarray]] = {name: [] for name in encoders}
        with full_float32(), torch.inference_mode():
            for batch in _batches(images) if encoders else ():
                chunk = self._chunk(batch)
                for name, encoder in encoders.items():
                    parts[name].append(encoder.features(chunk, np.ones(len(batch), bool)))
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _chunk_encoder(self, name: str, network: ImageNetwork) -> ImageChunkEncoder:
        variant = self._variant_of[name]
        size = BatchSize(BATCH, self._device.type)
        number = self._variants.index(variant)
        return ImageChunkEncoder(network, number, variant.crop_count, size, self._device)

    def _chunk(self, images: Sequence[ImageInput]) -> Chunk:
        """Decode images, and crop each for every variant."""
        crops: list[list[list[Tensor]]] = [[] for _ in self._croppers]
        for value in images:
            image, key = as_image(value)  # one at a time, as decoded images are large
            for cropped, cropper in zip(crops, self._croppers, strict=True):
                cropped.append(cropper(image, key))
        return Chunk(np.arange(len(images)), tuple(map(stack_by_shape, crops)))

    def texts(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the features (N, D) of N texts by the name of the encoder; equal texts are encoded once."""
        distinct = list(dict.fromkeys(texts))
        rows = [distinct.index(text) for text in texts]
        features = {}
        with full_float32(), torch.inference_mode():
            for name, network in self.text_networks.items():
                parts = []
                for part in _batches(distinct):
                    tokens = network.tokenize(part).to(self._device)
                    parts.append(network(tokens).cpu().numpy())
                features[name] = np.concatenate(parts)[rows]
        return features


def _batches(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + BATCH] for start in range(0, len(values), BATCH)]
