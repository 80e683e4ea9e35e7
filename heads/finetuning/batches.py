"""The batches that end-to-end training reads."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.text_network import TextNetwork, TokenBatch
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.heads.data.choices import Method

Item = TypeVar("Item")


@dataclass(frozen=True)
class InputRows:
    """N rows, told by the numbers of their distinct inputs.

    Attributes:
        image: (N,) number of the picture.
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
        """The rows of a manifest; pictures are numbered as in `Manifest.pictures`."""
        table, prompts = manifest.table, manifest.prompts()
        pictures = manifest.pictures().index
        return cls(
            pictures.get_indexer(table["image_key"]),
            pictures.get_indexer(table["image_prompt_key"]),
            prompts.index.get_indexer(table["prompt_key"]),
            prompts.tolist(),
        )


@dataclass(frozen=True)
class Batch:
    """B rows, with every input that they share there once.

    Attributes:
        pictures: Prepared pictures (n, 3, h, w) uint8, one tensor for each shape; or (n, D) features of a frozen encoder.
        image: (B,) number of the picture among all of `pictures`.
        image_prompt: (B,) number of the image prompt, of the picture itself where there is none.
        tokens: The prompts; or (n, D) features of a frozen encoder.
        text: (B,) number of the prompt among these.
    """

    pictures: tuple[Tensor, ...]
    image: Tensor
    image_prompt: Tensor
    tokens: TokenBatch | Tensor
    text: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        pictures = tuple(part.to(device, non_blocking=True) for part in self.pictures)
        return Batch(
            pictures,
            self.image.to(device),
            self.image_prompt.to(device),
            self.tokens.to(device),
            self.text.to(device),
        )


@dataclass(frozen=True)
class Batches:
    """Makes batches of rows for one network.

    Attributes:
        rows: All rows.
        pictures: Their pictures; or the features (n, D) of all, where the encoder is frozen.
        texts: The encoder of the prompts, which has the tokenizer; or the features (n, D) of all.
        method: What is fused: nothing is read that it has no use for.
        augment: Whether pictures are cropped and flipped at random.
        shared: Whether a picture that several rows share is encoded once. Not so where batch normalisation takes its statistics from the
            batch: there, as in the published code, it counts as often as it stands in the rows.
        seed: Of crops and flips.
    """

    rows: InputRows
    pictures: DecodedImages | Tensor
    texts: TextNetwork | Tensor
    method: Method
    augment: bool
    shared: bool
    seed: int

    def of(self, numbers: np.ndarray, epoch: int) -> Batch:
        """The batch of some rows in an epoch."""
        image, prompt = self.rows.image[numbers], self.rows.image_prompt[numbers]
        guided = (prompt >= 0) & (self.method != "nr")
        wanted, at = np.concatenate([image, prompt[guided]]), np.tile(np.arange(len(image)), 2)
        at[len(image) :][guided] = len(image) + np.arange(guided.sum())
        if self.shared:
            wanted, inverse = np.unique(wanted, return_inverse=True)
            at = inverse[at]
        pictures, place = self._views(wanted, epoch)
        image_at, prompt_at = (torch.from_numpy(half) for half in np.split(place[at], 2))
        prompts, text = np.unique(self.rows.text[numbers], return_inverse=True)
        return Batch(tuple(pictures), image_at, prompt_at, self._tokens(prompts), torch.from_numpy(text))

    def _tokens(self, prompts: np.ndarray) -> TokenBatch | Tensor:
        if isinstance(self.texts, Tensor):
            return self.texts[torch.from_numpy(prompts)]
        return self.texts.tokenize([self.rows.texts[number] for number in prompts])

    def _views(self, wanted: np.ndarray, epoch: int) -> tuple[list[Tensor], np.ndarray]:
        """What is encoded of some pictures, and where each of them is when the results stand one after the other."""
        if isinstance(self.pictures, Tensor):
            return [self.pictures[torch.from_numpy(wanted)]], np.arange(len(wanted))
        if self.augment:
            crops = [self.pictures.random(number, self.seed, epoch) for number in wanted]
        else:
            crops = [self.pictures.centre(number) for number in wanted]
        return stack_by_shape(crops)


def stack_by_shape(crops: Sequence[Tensor]) -> tuple[list[Tensor], np.ndarray]:
    """Views stacked with others of their shape, and the place of each among all of these stacks."""
    shapes = [view.shape for view in crops]
    order = [number for shape in dict.fromkeys(shapes) for number, its in enumerate(shapes) if its == shape]
    stacks = [torch.stack([view for view in crops if view.shape == shape]) for shape in dict.fromkeys(shapes)]
    return stacks, np.argsort(order)


def prefetched(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each made in another thread while the one before it is in use."""
    source, end = iter(items), object()
    following = partial(next, source, end)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(following)
        while (item := coming.result()) is not end:
            coming = pool.submit(following)
            yield item
