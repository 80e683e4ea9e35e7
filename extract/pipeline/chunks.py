"""Chunks: the inputs that are read together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.encoders.text_network import TokenBatch
from tier4k.extract.pipeline.shared_memory import SharedImages


@dataclass(frozen=True)
class CropStack:
    """Crops of one shape, of several images.

    Attributes:
        rows: (n,) row within the chunk of each crop's image.
        crops: (n,) number of the crop within its image, 0 being the centre.
        pixels: (n, 3, H, W) uint8.
    """

    rows: np.ndarray
    crops: np.ndarray
    pixels: Tensor

    def pin_memory(self) -> "CropStack":
        """Return the same in pinned memory."""
        return CropStack(self.rows, self.crops, self.pixels.pin_memory())


# For each way of preprocessing, the crops of all images by shape.
CropStacks = tuple[tuple[CropStack, ...], ...]


@dataclass(frozen=True)
class Chunk:
    """Inputs that are read together.

    Attributes:
        numbers: (C,) their numbers among all distinct inputs.
        images: Of images: for each way of preprocessing, the crops by shape.
        tokens: Of texts: their token numbers.
        pair_images: Of pairs: (C,) row of each pair's image in the chunk, ascending.
    """

    numbers: np.ndarray
    images: CropStacks = ()
    tokens: TokenBatch | None = None
    pair_images: np.ndarray | None = None

    def pin_memory(self) -> "Chunk":
        """Return the same in pinned memory, from which a GPU copies in the background.

        torch's DataLoader calls this.
        """
        return Chunk(self.numbers, tuple(map(_pinned, self.images)))


def _pinned(stacks: Sequence[CropStack]) -> tuple[CropStack, ...]:
    return tuple(map(CropStack.pin_memory, stacks))


class SentChunk:
    """A chunk of images on its way from a reading process to the encoding one.

    Raises:
        OSError: There is no room for its images.
    """

    def __init__(self, chunk: Chunk) -> None:
        self._numbers = chunk.numbers
        self._places: list[list[tuple[np.ndarray, np.ndarray]]] = []
        pixels = []
        for stacks in chunk.images:
            places = []
            for stack in stacks:
                places.append((stack.rows, stack.crops))
                pixels.append(stack.pixels)
            self._places.append(places)
        self._pixels = SharedImages(pixels)

    def received(self) -> Chunk:
        """Return the chunk, in the process that received it."""
        pixels = iter(self._pixels.received())
        images = []
        for places in self._places:
            stacks = [CropStack(rows, crops, next(pixels)) for rows, crops in places]
            images.append(tuple(stacks))
        return Chunk(self._numbers, tuple(images))

    def pin_memory(self) -> Chunk:
        """Return the chunk in pinned memory, as `Chunk.pin_memory`."""
        return self.received().pin_memory()


def stack_by_shape(images: Sequence[Sequence[Tensor]]) -> tuple[CropStack, ...]:
    """Stack the crops (3, H, W) of each image with others of the same shape, in order of first appearance."""
    places: dict[torch.Size, list[tuple[int, int]]] = {}
    for row, crops in enumerate(images):
        for number, pixels in enumerate(crops):
            places.setdefault(pixels.shape, []).append((row, number))
    return tuple(_stack(images, of_shape) for of_shape in places.values())


def _stack(images: Sequence[Sequence[Tensor]], places: Sequence[tuple[int, int]]) -> CropStack:
    rows, crops = zip(*places, strict=True)
    pixels = torch.stack([images[row][crop] for row, crop in places])
    return CropStack(np.array(rows), np.array(crops), pixels)
