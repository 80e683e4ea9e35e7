"""Batches of rows for end-to-end training."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.datasets.choices import Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.encoders.text_tokenizer import TokenBatch
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.extract.pipeline.chunks import group_by_shape
from tier4k.heads.data.choices import Method

Item = TypeVar("Item")


class CanBePinned(Protocol):
    """Tensors of the CPU."""

    def pin_memory(self) -> Self:
        """Return the same tensors in pinned memory."""


Pinnable = TypeVar("Pinnable", bound=CanBePinned)


@dataclass(frozen=True)
class InputRows:
    """N rows by the numbers of their distinct inputs.

    Attributes:
        image: (N,) number of the image.
        image_prompt: (N,) number of the image prompt, -1 where there is none.
        text: (N,) number of the prompt.
        texts: The distinct prompts.
    """

    image: np.ndarray
    image_prompt: np.ndarray
    text: np.ndarray
    texts: list[str]

    @classmethod
    def of(cls, manifest: Manifest) -> "InputRows":
        """Return the rows of a manifest; images are numbered as in `Manifest.images`."""
        table = manifest.table
        prompts = manifest.prompts()
        image_keys = manifest.images().index
        return cls(
            image=image_keys.get_indexer(table["image_key"]),
            image_prompt=image_keys.get_indexer(table["image_prompt_key"]),
            text=prompts.index.get_indexer(table["prompt_key"]),
            texts=prompts.tolist(),
        )


@dataclass(frozen=True)
class Batch:
    """B rows; an input that several rows share is stored once.

    Attributes:
        images: Preprocessed images (n, 3, h, w) uint8, one tensor for each shape; or (n, D) features of a
            frozen encoder; empty if no stream uses images.
        image: (B,) number of the image among all of `images`.
        image_prompt: (B,) number of the image prompt, or of the image itself where there is none.
        tokens: The prompts; or (n, D) features of a frozen encoder; None if no stream uses text.
        text: (B,) number of the prompt among all of `tokens`.
    """

    images: tuple[Tensor, ...]
    image: Tensor
    image_prompt: Tensor
    tokens: TokenBatch | Tensor | None
    text: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the same batch on another device; pinned memory is copied without waiting."""
        return Batch(
            images=tuple(part.to(device, non_blocking=True) for part in self.images),
            image=self.image.to(device, non_blocking=True),
            image_prompt=self.image_prompt.to(device, non_blocking=True),
            tokens=_to(self.tokens, device),
            text=self.text.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, from which a GPU copies by itself."""
        return Batch(
            images=tuple(part.pin_memory() for part in self.images),
            image=self.image.pin_memory(),
            image_prompt=self.image_prompt.pin_memory(),
            tokens=None if self.tokens is None else self.tokens.pin_memory(),
            text=self.text.pin_memory(),
        )


@dataclass(frozen=True)
class Batches:
    """Makes batches of rows for one network.

    Attributes:
        rows: All rows of the run.
        images: The images of the rows; or features (n, D) of all images, where the encoder is frozen; None if
            no stream uses images.
        texts: The encoder of the prompts, which has the tokenizer; or features (n, D) of all prompts; None if
            no stream uses text.
        method: The fusion; inputs that the fusion does not use are not read.
        streams: The streams of the method that the head uses; an empty tuple for all.
        augment: Whether images are cropped and flipped at random.
        shared: Whether an image that several rows share is encoded once. Batch normalisation with statistics
            of the batch needs False: then, as in the published code, an image counts once for each of its
            rows.
        seed: Seed of crops and flips.
    """

    rows: InputRows
    images: DecodedImages | Tensor | None
    texts: TextNetwork | Tensor | None
    method: Method
    streams: tuple[Stream, ...]
    augment: bool
    shared: bool
    seed: int

    def of(self, numbers: np.ndarray, epoch: int) -> Batch:
        """Return the batch of the rows with the given numbers (B,) in an epoch."""
        image_numbers, image_at, prompt_at = self._images_to_encode(numbers)
        images, places = self._images(image_numbers, epoch)
        prompts, text = np.unique(self.rows.text[numbers], return_inverse=True)
        return Batch(
            images=tuple(images),
            image=torch.from_numpy(places[image_at]),
            image_prompt=torch.from_numpy(places[prompt_at]),
            tokens=self._tokens(prompts),
            text=torch.from_numpy(text),
        )

    def _images_to_encode(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the numbers of the images to encode, and the places (B,) of images and of image prompts."""
        image = self.rows.image[numbers]
        prompt = self.rows.image_prompt[numbers]
        has_prompt = (prompt >= 0) & (self.method != "nr")
        image_numbers = np.concatenate([image, prompt[has_prompt]])
        image_at = np.arange(len(image))
        prompt_at = np.arange(len(image))
        prompt_at[has_prompt] = len(image) + np.arange(has_prompt.sum())
        if self.shared:
            image_numbers, inverse = np.unique(image_numbers, return_inverse=True)
            image_at = inverse[image_at]
            prompt_at = inverse[prompt_at]
        return image_numbers, image_at, prompt_at

    def _images(self, image_numbers: np.ndarray, epoch: int) -> tuple[list[Tensor], np.ndarray]:
        """Return the encoder's inputs, and the place of each image among the concatenated outputs."""
        if self.images is None:
            return [], np.arange(len(image_numbers))
        if isinstance(self.images, Tensor):
            return [self.images[torch.from_numpy(image_numbers)]], np.arange(len(image_numbers))
        if self.augment:
            crops = [self.images.random(number, self.seed, epoch) for number in image_numbers]
        else:
            crops = [self.images.centre(number) for number in image_numbers]
        return stack_by_shape(crops)

    def _tokens(self, prompts: np.ndarray) -> TokenBatch | Tensor | None:
        if self.texts is None:
            return None
        if isinstance(self.texts, Tensor):
            return self.texts[torch.from_numpy(prompts)]
        return self.texts.tokenize([self.rows.texts[number] for number in prompts])


def stack_by_shape(crops: Sequence[Tensor]) -> tuple[list[Tensor], np.ndarray]:
    """Stack crops of equal shape.

    Returns:
        The stacks, and the place of each crop when the stacks are concatenated.
    """
    stacks: list[Tensor] = []
    order: list[int] = []
    for numbers in group_by_shape(crops):
        stacks.append(torch.stack([crops[number] for number in numbers]))
        order.extend(numbers)
    return stacks, np.argsort(order)


def pinned(item: Pinnable, device: torch.device) -> Pinnable:
    """Return tensors of the CPU in pinned memory, if the device is an NVIDIA GPU; else the same tensors.

    A GPU copies pinned memory by itself, so that the calling thread need not wait for it. Pinning copies the
    tensors, and therefore belongs into the thread that prefetches.
    """
    if device.type != "cuda":
        return item
    with torch.cuda.device(device):  # a new thread would pin for the first GPU, and take memory there
        return item.pin_memory()


def prefetched(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the same items, each made in another thread while the one before it is in use."""
    end = object()
    next_item = partial(next, iter(items), end)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next_item)
        while (item := pending.result()) is not end:
            pending = pool.submit(next_item)
            yield item


def _to(tokens: TokenBatch | Tensor | None, device: torch.device) -> TokenBatch | Tensor | None:
    if isinstance(tokens, Tensor):
        return tokens.to(device, non_blocking=True)
    return None if tokens is None else tokens.to(device)
