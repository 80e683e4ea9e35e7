"""Chunks: inputs that are read together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.encoders.text_tokenizer import TokenBatch
from tier4k.extract.pipeline.shared_memory import SharedImages


@dataclass(frozen=True)
class CropStack:
    """Crops of equal shape from several images.

    Attributes:
        rows: (n,) index of each crop's image in the chunk.
        crops: (n,) index of each crop among the crops of its image; 0 is the centre.
        pixels: (n, 3, H, W) uint8 pixels of the crops.
    """

    rows: np.ndarray
    crops: np.ndarray
    pixels: Tensor

    def pin_memory(self) -> "CropStack":
        """Return the crops in pinned memory."""
        return CropStack(self.rows, self.crops, self.pixels.pin_memory())


# The crops of all images: for each preprocessing variant, one stack for each shape.
CropStacks = tuple[tuple[CropStack, ...], ...]


@dataclass(frozen=True)
class Chunk:
    """Inputs that are read together.

    Attributes:
        numbers: (C,) indices of the C inputs among all distinct inputs.
        images: Crops of images: for each preprocessing variant, one stack for each shape.
        tokens: Tokens of texts, if the inputs are texts.
        pair_images: (C,) index of each pair's image in the chunk, ascending, if the inputs are pairs.
    """

    numbers: np.ndarray
    images: CropStacks = ()
    tokens: TokenBatch | None = None
    pair_images: np.ndarray | None = None

    def pin_memory(self) -> "Chunk":
        """Return the chunk in pinned memory, from which a GPU copies in the background.

        torch's DataLoader calls this.
        """
        return Chunk(self.numbers, tuple(map(_pin_stacks, self.images)))


def _pin_stacks(stacks: Sequence[CropStack]) -> tuple[CropStack, ...]:
    return tuple(map(CropStack.pin_memory, stacks))


class SentChunk:
    """A chunk of images that a reading process sends to the encoding process.

    Args:
        chunk: The chunk, whose images are copied into shared memory.

    Raises:
        OSError: There is too little memory for the images.
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
        """Return the chunk in pinned memory, like `Chunk.pin_memory`."""
        return self.received().pin_memory()


def stack_by_shape(images: Sequence[Sequence[Tensor]]) -> tuple[CropStack, ...]:
    """Stack crops (3, H, W) of equal shape, given the crops of each image; shapes in order of appearance."""
    places: dict[torch.Size, list[tuple[int, int]]] = {}
    for row, crops in enumerate(images):
        for crop, pixels in enumerate(crops):
            places.setdefault(pixels.shape, []).append((row, crop))
    return tuple(_stack(images, places_of_shape) for places_of_shape in places.values())


def _stack(images: Sequence[Sequence[Tensor]], places: Sequence[tuple[int, int]]) -> CropStack:
    rows, crops = zip(*places, strict=True)
    pixels = torch.stack([images[row][crop] for row, crop in places])
    return CropStack(np.array(rows), np.array(crops), pixels)
