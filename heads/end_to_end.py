"""TIER end to end: the encoders of stage 1 and the head in one network, and the batches that it is trained on."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from extract.decoded import DecodedPictures
from extract.manifest import Manifest
from extract.networks import ImageNetwork, TextNetwork, TokenBatch
from heads.choices import Method
from heads.features import picture_parts
from heads.stacked import HeadNetwork

EVALUATION_BATCH = 32  # pictures or prompts that are encoded together where nothing is learnt
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
        return Batch(pictures, self.image.to(device), self.image_prompt.to(device), self.tokens.to(device), self.text.to(device))


class TierNetwork(nn.Module):
    """Batches -> scores (B,).

    Args:
        images: Encoder of pictures; `nn.Identity` where it is frozen and its features are the input.
        texts: Encoder of prompts; the same.
        head: TIER's two layers.
        method: What is fused.
        half: Whether the encoders multiply in bfloat16; fusion and head never do.
    """

    def __init__(
        self,
        images: ImageNetwork | nn.Identity,
        texts: TextNetwork | nn.Identity,
        head: HeadNetwork,
        method: Method,
        half: bool = False,
    ) -> None:
        super().__init__()
        self.images, self.texts, self.head = images, texts, head
        self.method, self.in_half = method, half

    def forward(self, batch: Batch) -> Tensor:
        """Scores of a batch."""
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=self.in_half):
            pictures = torch.cat([self.images(part) for part in batch.pictures])
            texts = self.texts(batch.tokens)
        # An embedding, as its slopes are summed in the same order every time.
        image, image_prompt, text = (
            nn.functional.embedding(numbers, features.float())
            for numbers, features in ((batch.image, pictures), (batch.image_prompt, pictures), (batch.text, texts))
        )
        return self.head(torch.cat([text, *picture_parts(self.method, image, image_prompt)], dim=1))


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
    pictures: DecodedPictures | Tensor
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
            views = [self.pictures.random(number, self.seed, epoch) for number in wanted]
        else:
            views = [self.pictures.centre(number) for number in wanted]
        return stack_by_shape(views)


def stack_by_shape(views: Sequence[Tensor]) -> tuple[list[Tensor], np.ndarray]:
    """Views stacked with others of their shape, and the place of each among all of these stacks."""
    shapes = [view.shape for view in views]
    order = [number for shape in dict.fromkeys(shapes) for number, its in enumerate(shapes) if its == shape]
    stacks = [torch.stack([view for view in views if view.shape == shape]) for shape in dict.fromkeys(shapes)]
    return stacks, np.argsort(order)


@torch.inference_mode()
def fused_rows(images: nn.Module, texts: nn.Module, batches: Batches, numbers: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    """Fused vectors (n, d) float32 of some rows, of their centre views, in evaluation mode; several processes share the work."""
    rows, device = batches.rows, accelerator.device
    image, prompt, text = rows.image[numbers], rows.image_prompt[numbers], rows.text[numbers]
    prompt = np.where((prompt >= 0) & (batches.method != "nr"), prompt, image)
    pictures, prompts = batches.pictures, batches.texts
    if isinstance(pictures, DecodedPictures):
        pictures = picture_features(images, pictures, np.unique(np.concatenate([image, prompt])), accelerator)
    if isinstance(prompts, TextNetwork):
        prompts = text_features(texts, prompts, rows.texts, np.unique(text), device)
    parts = [prompts[text], *picture_parts(batches.method, pictures[image], pictures[prompt])]
    return torch.cat(parts, dim=1).numpy()


@torch.inference_mode()
def picture_features(images: nn.Module, pictures: DecodedPictures, wanted: np.ndarray, accelerator: Accelerator) -> Tensor:
    """Features (P, D) float32 of the wanted pictures' centre views, zero for all others; each process encodes its share."""
    mine, device = wanted[accelerator.process_index :: accelerator.num_processes], accelerator.device
    some = mine if len(mine) else wanted[:1]  # every process must know how wide the features are
    chunks = [some[start : start + EVALUATION_BATCH] for start in range(0, len(some), EVALUATION_BATCH)]
    out = torch.empty(0)
    stacked = (stack_by_shape([pictures.centre(number) for number in chunk]) for chunk in chunks)
    for chunk, (stacks, place) in zip(chunks, ahead(stacked), strict=True):
        features = torch.cat([images(stack.to(device)) for stack in stacks])
        out = out if len(out) else torch.zeros(len(pictures), features.shape[1], device=device)
        out[torch.from_numpy(chunk).to(device)] = features[torch.from_numpy(place).to(device)]
    return accelerator.reduce(out if len(mine) else torch.zeros_like(out), "sum").cpu()


@torch.inference_mode()
def text_features(texts: nn.Module, tokenizer: TextNetwork, prompts: list[str], wanted: np.ndarray, device: torch.device) -> Tensor:
    """Features (T, D) float32 of the wanted prompts, zero for all others. Prompts are few: every process encodes them all."""
    out = torch.empty(0)
    for start in range(0, len(wanted), EVALUATION_BATCH):
        chunk = wanted[start : start + EVALUATION_BATCH]
        features = texts(tokenizer.tokenize([prompts[number] for number in chunk]).to(device)).cpu()
        out = out if len(out) else torch.zeros(len(prompts), features.shape[1])
        out[torch.from_numpy(chunk)] = features
    return out


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each made in another thread while the one before it is in use."""
    source, end = iter(items), object()
    following = partial(next, source, end)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(following)
        while (item := coming.result()) is not end:
            coming = pool.submit(following)
            yield item
