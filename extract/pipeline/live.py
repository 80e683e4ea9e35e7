"""Encoders that stay loaded: pictures and texts in memory go in, features come out, and nothing is stored."""

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
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.decode import ImageError, decode, read_bytes, require_8_bits
from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.chunks import Chunk, by_shape
from tier4k.extract.pipeline.device import choose_device
from tier4k.extract.pipeline.encode import ImageStep
from tier4k.extract.pipeline.read import Preparing

BATCH = 32

Picture = str | Path | Image.Image | np.ndarray | torch.Tensor

Keyed = tuple[Image.Image, bytes]


def as_image(value: Picture) -> Keyed:
    """An RGB picture and its key, which seeds random views.

    Args:
        value: A path; a PIL picture; an array (H, W, 3), (H, W, 4) or (H, W); or a tensor (3, H, W), as torchvision gives it. Arrays and
            tensors are uint8 from 0 to 255 or floating from 0 to 1.

    Raises:
        PictureError: It is no picture, or cannot be decoded.
    """
    if isinstance(value, str | Path):
        try:
            data = read_bytes(Path(value))
            return decode(data), bytes_key(data)
        except ImageError as error:
            raise ImageError(f"{value}: {error}") from error
    if isinstance(value, torch.Tensor):
        value = _channels_last(value)
    if isinstance(value, np.ndarray):
        value = _from_array(value)
    if not isinstance(value, Image.Image):
        raise ImageError(
            f"{type(value).__name__} is no picture: give a path, a PIL picture, an array (H, W, 3) or a tensor (3, H, W)"
        )
    require_8_bits(value)
    picture = value.convert("RGB")
    return picture, bytes_key(picture.tobytes())


def _channels_last(value: torch.Tensor) -> np.ndarray:
    if value.ndim != 3 or value.shape[0] not in (1, 3):
        raise ImageError(f"a tensor of shape {tuple(value.shape)} is no picture: expected (3, H, W)")
    array = value.detach().cpu().permute(1, 2, 0)
    array = array.float() if array.is_floating_point() else array
    return array[..., 0].numpy() if array.shape[-1] == 1 else array.numpy()


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or 0 in array.shape:
        raise ImageError(
            f"an array of shape {array.shape} is no picture: expected (H, W, 3), (H, W, 4) or (H, W)"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
            raise ImageError(
                f"floating pixels go from 0 to 1, not {array.min():g} to {array.max():g}: divide by 255, or give uint8"
            )
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(f"pixels of type {array.dtype}: give uint8 from 0 to 255, or floating from 0 to 1")
    return Image.fromarray(array)


class LiveEncoders:
    """An image encoder and a text encoder, loaded when they are first needed.

    Args:
        image, text: The encoders.
        device: "auto", or a torch device.
    """

    def __init__(self, image: ImageEncoder, text: TextEncoder, device: str = "auto") -> None:
        self._image, self._text = image, text
        self._device = choose_device(device)
        self._prepare = Preparing(image.preprocessing, image.crops)

    @cached_property
    def image_network(self) -> ImageNetwork:
        """The loaded image encoder."""
        torch.backends.cudnn.allow_tf32 = False
        return ImageNetwork.of(self._image).frozen(self._image.precision).to(self._device)

    @cached_property
    def text_network(self) -> TextNetwork:
        """The loaded text encoder."""
        return TextNetwork.of(self._text).frozen(self._text.precision).to(self._device)

    def pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """Features (N, D) of pictures as `as_image` takes them, (N, V, D) where the encoder sees V > 1 views of each.

        Raises:
            PictureError: One is no picture.
            ExtractionError: The device has too little memory.
        """
        crops = 1 + self._image.crops.count
        step = ImageStep(self.image_network, 0, crops, BatchSize(BATCH, self._device.type), self._device)
        with torch.inference_mode():
            return np.concatenate([self._encoded(step, part) for part in _batches(pictures)])

    def _encoded(self, step: ImageStep, pictures: Sequence[Picture]) -> np.ndarray:
        prepared = [self._prepare(*as_image(picture)) for picture in pictures]
        return step.features(
            Chunk(np.arange(len(prepared)), (by_shape(prepared),)), np.ones(len(prepared), bool)
        )

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features (N, D) of texts."""
        distinct = list(dict.fromkeys(texts))
        network = self.text_network
        with torch.inference_mode():
            parts = [
                network(network.tokenize(part).to(self._device)).cpu().numpy() for part in _batches(distinct)
            ]
        return np.concatenate(parts)[[distinct.index(text) for text in texts]]


def _batches(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + BATCH] for start in range(0, len(values), BATCH)]
