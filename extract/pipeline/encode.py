"""Encoding of chunks with networks."""

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.encoders.text_tokenizer import TokenBatch
from tier4k.extract.pipeline.batch_size import BatchSize, contains_any
from tier4k.extract.pipeline.chunks import Chunk, CropStack
from tier4k.extract.pipeline.missing_inputs import Work
from tier4k.extract.pipeline.options import ExtractionError

if TYPE_CHECKING:
    from tier4k.extract.scorers.pair_network import PairNetwork

# Parts of torch's messages about inputs that are too small for a network.
TOO_SMALL = (
    "Kernel size can't be greater than actual input size",
    "Output size is too small",
)


class ChunkEncoder(Protocol):
    """Interface of objects that encode chunks of inputs."""

    @property
    def batch_size(self) -> int:
        """Current number of inputs per batch."""

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Return the features (n, ...) of the n wanted inputs of a chunk.

        Args:
            chunk: A chunk of C inputs.
            wanted: (C,) bool: the inputs to encode.

        Raises:
            ExtractionError: An input is too small for the network, or too large for the memory.
        """


class ImageChunkEncoder:
    """Encodes the images of a chunk with one network.

    Args:
        network: The image network, on `device`.
        variant: Index of the network's preprocessing variant among the variants of a chunk.
        crop_count: Number of crops of each image.
        size: Batch size in crops, adapted while chunks are encoded.
        device: The network's device.
    """

    def __init__(
        self,
        network: ImageNetwork,
        variant: int,
        crop_count: int,
        size: BatchSize,
        device: torch.device,
    ) -> None:
        self._network = network
        self._variant = variant
        self._crop_count = crop_count
        self._size = size
        self._device = device

    @property
    def batch_size(self) -> int:
        """Current number of crops per batch."""
        return self._size.current

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Return features (n, D) of the n wanted images of a chunk, or (n, V, D) for V > 1 crops each."""
        position = np.cumsum(wanted) - 1
        features: np.ndarray | None = None
        pixels = 0
        start = time.perf_counter()
        for stack in chunk.images[self._variant]:
            wanted_stack = _wanted_crops(stack, wanted)
            if not len(wanted_stack.pixels):
                continue
            stack_features = self._encode(wanted_stack.pixels).numpy()
            if features is None:
                shape = (int(wanted.sum()), self._crop_count, stack_features.shape[1])
                features = np.empty(shape, stack_features.dtype)
            features[position[wanted_stack.rows], wanted_stack.crops] = stack_features
            pixels += wanted_stack.pixels[:, 0].numel()
        assert features is not None
        self._size.measured(pixels, time.perf_counter() - start)
        return features[:, 0] if self._crop_count == 1 else features

    def _encode(self, crops: Tensor) -> Tensor:
        """Return features (n, D) of preprocessed crops (n, 3, H, W), batch by batch."""

        def encode_batch(batch: slice) -> Tensor:
            """Return the features of one batch."""
            return _forward(self._network, crops[batch].to(self._device, non_blocking=True))

        return self._size.encode_in_batches(len(crops), encode_batch).cpu()


def _wanted_crops(stack: CropStack, wanted: np.ndarray) -> CropStack:
    """Return the crops of the images that `wanted`, (C,) bool, selects."""
    keep = wanted[stack.rows]
    if keep.all():
        return stack
    return CropStack(stack.rows[keep], stack.crops[keep], stack.pixels[torch.from_numpy(keep)])


class PairChunkEncoder:
    """Scores the missing pairs of a chunk. Each image is encoded once, and each text on first use.

    Args:
        work: The scorer and its pairs.
        network: The scorer's network, on `device`.
        text_batch_size: Number of texts per batch.
        size: Batch size in images, and in pairs; adapted while chunks are encoded.
        device: The network's device.
    """

    def __init__(
        self,
        work: Work,
        network: "PairNetwork",
        text_batch_size: int,
        size: BatchSize,
        device: torch.device,
    ) -> None:
        self._network = network
        self._text_batch_size = text_batch_size
        self._size = size
        self._device = device
        self._prompt_of_pair, prompts = pd.factorize(work.inputs["prompt"])
        self._prompts: list[str] = prompts.tolist()
        self._encoded_prompts: dict[int, Tensor] = {}

    @property
    def batch_size(self) -> int:
        """Current number of images per batch."""
        return self._size.current

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Return the scores (n, 1) of the n pairs of a chunk, all of which must be wanted."""
        assert chunk.pair_images is not None
        assert wanted.all()
        (stack,) = chunk.images[0]  # all images have the network's shape
        pair_images = chunk.pair_images
        start = time.perf_counter()
        texts = self._encoded_texts(self._prompt_of_pair[chunk.numbers])

        def score_batch(batch: slice) -> Tensor:
            """Return the scores of all pairs of one batch of images."""
            pixels = stack.pixels[batch].to(self._device, non_blocking=True)
            first, end = np.searchsorted(pair_images, (batch.start, batch.stop))
            images = self._network.encode_images(pixels)
            return self._score(images, pair_images[first:end] - batch.start, texts[first:end])

        scores = self._size.encode_in_batches(len(stack.pixels), score_batch).cpu().numpy()
        self._size.measured(stack.pixels[:, 0].numel(), time.perf_counter() - start)
        return scores[:, None]

    def _score(
        self,
        images: Tensor,
        image_of_pair: np.ndarray,
        texts: Tensor,
    ) -> Tensor:
        """Return the scores (n,) of n pairs.

        Args:
            images: Encoded images of a batch.
            image_of_pair: (n,) index of each pair's image in `images`.
            texts: (n, ...) encoded text of each pair.
        """
        scores = []
        size = self._size.current
        for start in range(0, len(image_of_pair), size):
            part = slice(start, start + size)
            scores.append(self._network.score(images[image_of_pair[part]], texts[part]))
        return torch.cat(scores)

    def _encoded_texts(self, prompt_indices: np.ndarray) -> Tensor:
        """Return the encoded prompts (n, ...) at n indices; prompts that were not used before are encoded."""
        indices: list[int] = prompt_indices.tolist()
        unencoded = [index for index in dict.fromkeys(indices) if index not in self._encoded_prompts]
        for start in range(0, len(unencoded), self._text_batch_size):
            batch = unencoded[start : start + self._text_batch_size]
            encoded = self._network.encode_texts([self._prompts[index] for index in batch])
            self._encoded_prompts.update(zip(batch, encoded, strict=True))
        return torch.stack([self._encoded_prompts[index] for index in indices])


class TextChunkEncoder:
    """Encodes the missing texts of a chunk.

    Args:
        network: The text network, on `device`.
        batch_size: Number of texts per batch.
        device: The network's device.
    """

    def __init__(
        self,
        network: TextNetwork,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self._network = network
        self._device = device
        self.batch_size = batch_size

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Return the features (n, D) of the texts, all of which must be wanted."""
        assert chunk.tokens is not None
        assert wanted.all()
        return _forward(self._network, chunk.tokens.to(self._device)).cpu().numpy()


def _forward(network: nn.Module, batch: Tensor | TokenBatch) -> Tensor:
    """Run a network on a batch; raise errors that name the remedy."""
    try:
        return network(batch)
    except Exception as error:
        if isinstance(batch, Tensor) and _is_too_small(error):
            height, width = batch.shape[2:]
            problem = f"a crop of {width} x {height} pixels is too small for this encoder"
            raise ExtractionError(f"{problem}: pass a larger --image-size") from error
        if _is_compiler_error(error):
            reason = str(error).strip().splitlines()[0]
            raise ExtractionError(
                f"--compile needs a working C++ compiler ({reason}): install one, or do not pass --compile"
            ) from error
        raise


def _is_too_small(error: Exception) -> bool:
    return contains_any(str(error), TOO_SMALL)


def _is_compiler_error(error: Exception) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
