"""Chunks: inputs that were read together."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.pipeline.listener import UnreadableImage

CPU = torch.device("cpu")
NO_INPUTS = np.empty(0, np.int64)


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


@dataclass(frozen=True)
class DecodedStack:
    """Decoded images of equal shape.

    Attributes:
        rows: (n,) index of each image in the chunk.
        needed: (V, n) bool: the images of which each preprocessing variant is needed.
        pixels: (n, H, W, 4) uint8, see `tier4k.extract.images.pixels`.
    """

    rows: np.ndarray
    needed: np.ndarray
    pixels: Tensor


# The crops of all images: for each preprocessing variant, one stack for each shape.
CropStacks = tuple[tuple[CropStack, ...], ...]


@dataclass(frozen=True)
class Chunk:
    """Inputs that were read together: those of a unit, or some of its images.

    Attributes:
        numbers: (C,) indices of the C inputs in the unit, or of images that are not yet given to their pairs.
        images: Crops of images: for each preprocessing variant, one stack for each shape. Before the upload,
            there are none for a variant that the device preprocesses.
        decoded: The images that the device preprocesses; none after the upload.
        texts: The texts: of the inputs in their order, or of pairs.
        pair_images: (C,) index of each pair's image in the chunk, ascending, if the inputs are pairs.
        pair_texts: (C,) index of each pair's text, if the inputs are pairs.
        left_out: (L,) indices of those that were left out, because their images cannot be read.
        unreadable: These images.
    """

    numbers: np.ndarray
    images: CropStacks = ()
    decoded: tuple[DecodedStack, ...] = ()
    texts: tuple[str, ...] = ()
    pair_images: np.ndarray | None = None
    pair_texts: np.ndarray | None = None
    left_out: np.ndarray = field(default_factory=lambda: NO_INPUTS)
    unreadable: tuple[UnreadableImage, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of the images."""
        crops = sum(stack.pixels.nbytes for stacks in self.images for stack in stacks)
        return crops + sum(stack.pixels.nbytes for stack in self.decoded)


def group_by_shape(arrays: Sequence[np.ndarray | Tensor]) -> list[list[int]]:
    """Return the numbers of the arrays of each shape, in the order in which the shapes appear."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, array in enumerate(arrays):
        groups.setdefault(tuple(array.shape), []).append(number)
    return list(groups.values())


@torch.inference_mode()
def stack_arrays(arrays: Sequence[np.ndarray], device: torch.device = CPU) -> Tensor:
    """Stack n uint8 arrays of equal shape into a tensor (n, …) on the CPU; for CUDA in pinned memory.

    The tensor is one of inference mode, as those that `join_chunks` makes: torch would compile a network once
    for these and once for others.
    """
    shape = (len(arrays), *arrays[0].shape)
    if device.type == "cuda":
        with torch.cuda.device(device):  # a new thread would pin for the first GPU, and take memory there
            stacked = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    else:
        stacked = torch.empty(shape, dtype=torch.uint8)
    np.stack(arrays, out=stacked.numpy())
    return stacked


def stack_by_shape(
    images: Sequence[Sequence[np.ndarray]], device: torch.device = CPU
) -> tuple[CropStack, ...]:
    """Stack crops (3, H, W) of equal shape, given the crops of each image."""
    arrays: list[np.ndarray] = []
    places: list[tuple[int, int]] = []
    for row, crops in enumerate(images):
        for number, crop in enumerate(crops):
            arrays.append(crop)
            places.append((row, number))
    stacks: list[CropStack] = []
    for equal in group_by_shape(arrays):
        rows, numbers = np.array([places[index] for index in equal]).T
        stacks.append(CropStack(rows, numbers, stack_arrays([arrays[index] for index in equal], device)))
    return tuple(stacks)


def select_rows(rows: Tensor, numbers: np.ndarray) -> Tensor:
    """Return the rows with these numbers, in their order, without waiting for the device."""
    if np.array_equal(numbers, np.arange(len(rows))):
        return rows
    return rows[torch.from_numpy(numbers).to(rows.device, non_blocking=True)]


def join_chunks(parts: Sequence[Chunk]) -> Chunk:
    """Return one chunk of images from consecutive parts, which are on one device and preprocessed."""
    if len(parts) == 1:
        return parts[0]
    counts = [len(part.numbers) for part in parts]
    starts = np.cumsum([0, *counts[:-1]]).tolist()
    images: list[tuple[CropStack, ...]] = []
    for stacks_of_parts in zip(*[part.images for part in parts], strict=True):
        images.append(_join_stacks(stacks_of_parts, starts))
    unreadable: list[UnreadableImage] = []
    for part in parts:
        unreadable.extend(part.unreadable)
    return Chunk(
        numbers=np.concatenate([part.numbers for part in parts]),
        images=tuple(images),
        left_out=np.concatenate([part.left_out for part in parts]),
        unreadable=tuple(unreadable),
    )


def _join_stacks(parts: Sequence[Sequence[CropStack]], starts: Sequence[int]) -> tuple[CropStack, ...]:
    """Join stacks of equal shape; `starts` has the index of each part's first image in the joined chunk."""
    by_shape: dict[torch.Size, list[CropStack]] = {}
    for stacks, start in zip(parts, starts, strict=True):
        for stack in stacks:
            moved = CropStack(stack.rows + start, stack.crops, stack.pixels)
            by_shape.setdefault(stack.pixels.shape[1:], []).append(moved)
    joined: list[CropStack] = []
    for equal in by_shape.values():
        rows = np.concatenate([stack.rows for stack in equal])
        crops = np.concatenate([stack.crops for stack in equal])
        joined.append(CropStack(rows, crops, torch.cat([stack.pixels for stack in equal])))
    return tuple(joined)
