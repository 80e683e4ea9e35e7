"""Encoding of chunks with networks."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import gcd
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.chunks import Chunk, select_rows
from tier4k.extract.pipeline.encoded_texts import EncodedTexts
from tier4k.extract.pipeline.options import ExtractionError

if TYPE_CHECKING:  # each kind of network has libraries of its own
    from tier4k.extract.encoders.image_network import ImageNetwork
    from tier4k.extract.encoders.text_network import TextNetwork
    from tier4k.extract.encoders.text_tokenizer import TokenBatch
    from tier4k.extract.scorers.called_network import CalledNetwork
    from tier4k.extract.scorers.pair_network import PairNetwork

# Parts of torch's messages about inputs that are too small for a network.
TOO_SMALL = (
    "Kernel size can't be greater than actual input size",
    "Output size is too small",
)

KEPT_PAIR_TEXT_BYTES = 2**30  # of encoded texts of one scorer


class ChunkEncoder(Protocol):
    """Interface of objects that encode chunks of inputs."""

    def batches(self, chunk: Chunk, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """Divide the wanted inputs of a chunk into batches.

        Args:
            chunk: A chunk of C inputs.
            wanted: (C,) bool: the inputs to encode.

        Yields:
            (C,) bool: the inputs of one batch after the other. The batch size may change between two.
        """

    def features(self, chunk: Chunk, wanted: np.ndarray) -> Tensor:
        """Return the features (n, ...) of the n wanted inputs of a chunk, n > 0, on the device.

        A GPU may still be computing them.

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
        network: "ImageNetwork",
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

    def batches(self, chunk: Chunk, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """Yield images of one shape, as many as have the crops of whole batches (see `ChunkEncoder`)."""
        for stack in chunk.images[self._variant]:
            rows = stack.rows[stack.crops == 0]
            yield from _masks(rows[wanted[rows]], len(wanted), self._images_of_batches)

    def _images_of_batches(self) -> int:
        """Return the smallest number of images whose crops fill batches without a rest."""
        return self._size.current // gcd(self._size.current, self._crop_count)

    def features(self, chunk: Chunk, wanted: np.ndarray) -> Tensor:
        """Return features (n, D) of the n wanted images of a chunk, or (n, V, D) for V > 1 crops each."""
        position = np.cumsum(wanted) - 1
        places: list[np.ndarray] = []
        features: list[Tensor] = []
        with measured_speed(self._size, self._device) as count:
            for stack in chunk.images[self._variant]:
                needed = np.flatnonzero(wanted[stack.rows])
                if not len(needed):
                    continue
                crops = select_rows(stack.pixels, needed)
                features.append(self._encode(crops))
                places.append(position[stack.rows[needed]] * self._crop_count + stack.crops[needed])
                count(len(crops), crops)
        ordered = select_rows(torch.cat(features), np.argsort(np.concatenate(places)))
        return ordered if self._crop_count == 1 else ordered.unflatten(0, (-1, self._crop_count))

    def _encode(self, crops: Tensor) -> Tensor:
        """Return features (n, D) of preprocessed crops (n, 3, H, W), batch by batch."""

        def encode_batch(batch: slice) -> Tensor:
            """Return the features of one batch."""
            count = batch.stop - batch.start
            inputs = padded(crops[batch], padded_count(count, self._size.current, self._device.type))
            return _forward(self._network, inputs)[:count]

        return self._size.encode_in_batches(len(crops), encode_batch)


def _masks(
    numbers: np.ndarray,
    count: int,
    size: Callable[[], int],
) -> Iterator[np.ndarray]:
    """Divide inputs, given by their numbers (n,) among `count`, into masks (count,) of `size()` inputs."""
    start = 0
    while start < len(numbers):
        end = start + size()
        mask = np.zeros(count, bool)
        mask[numbers[start:end]] = True
        yield mask
        start = end


@contextmanager
def measured_speed(size: BatchSize, device: torch.device) -> Iterator[Callable[[int, Tensor], None]]:
    """Adapt a batch size to the time in which the context encodes the inputs that it counts.

    Yields:
        A function that the context calls for each stack: with the number of inputs, and images (n, C, H, W)
        of their shape.
    """
    inputs = pixels = 0

    def count(number: int, images: Tensor) -> None:
        nonlocal inputs, pixels
        inputs += number
        pixels += number * images[0, 0].numel()

    start = time.perf_counter()
    yield count
    if not size.is_settled:
        if device.type == "mps":
            torch.mps.synchronize()
        size.measured(inputs, pixels, time.perf_counter() - start)


def padded(crops: Tensor, count: int) -> Tensor:
    """Return `count` crops: the given ones (n, 3, H, W), and the first ones again until there are enough."""
    if count == len(crops):
        return crops
    return crops[torch.arange(count, device=crops.device) % len(crops)]


def padded_count(
    count: int,
    batch_size: int,
    device: str,
) -> int:
    """Return the number of crops to which a batch is padded: on CUDA the next power of two or a full batch.

    On CUDA each new size of a batch costs time once: libraries choose or compile their kernels for it. The
    features of a crop do not depend on the other crops of its batch.
    """
    if device != "cuda":
        return count
    return min(1 << (count - 1).bit_length(), max(batch_size, count))


class PairChunkEncoder:
    """Scores the pairs of a chunk. Each image is encoded once, and a text that occurs again soon also once.

    Args:
        network: The scorer's network, on `device`.
        text_batch_size: Number of texts per batch.
        size: Batch size in images, and in pairs; adapted while chunks are encoded.
        device: The network's device.
    """

    def __init__(
        self,
        network: "PairNetwork",
        text_batch_size: int,
        size: BatchSize,
        device: torch.device,
    ) -> None:
        self._network = network
        self._size = size
        self._text_size = BatchSize(text_batch_size, device.type)
        self._device = device
        self._texts = EncodedTexts(self._encode_texts, KEPT_PAIR_TEXT_BYTES)

    def batches(self, chunk: Chunk, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """Yield all pairs of as many images as a batch has (see `ChunkEncoder`)."""
        assert chunk.pair_images is not None
        images = np.unique(chunk.pair_images[wanted])
        for mask in _masks(images, images[-1] + 1, lambda: self._size.current):
            yield wanted & np.isin(chunk.pair_images, np.flatnonzero(mask))

    def features(self, chunk: Chunk, wanted: np.ndarray) -> Tensor:
        """Return the scores (n, 1) of the n wanted pairs of a chunk."""
        assert chunk.pair_images is not None
        assert chunk.pair_texts is not None
        (stack,) = chunk.images[0]  # all images have the network's shape
        used_images, pair_images = np.unique(chunk.pair_images[wanted], return_inverse=True)
        pixels = select_rows(stack.pixels, used_images)
        with measured_speed(self._size, self._device) as count:
            texts = self._texts(chunk.texts)[torch.from_numpy(chunk.pair_texts[wanted])]

            def score_batch(batch: slice) -> Tensor:
                """Return the scores of all pairs of one batch of images."""
                first, end = np.searchsorted(pair_images, (batch.start, batch.stop))
                images = self._network.encode_images(pixels[batch])
                return self._score(images, pair_images[first:end] - batch.start, texts[first:end])

            scores = self._size.encode_in_batches(len(pixels), score_batch)
            count(len(pixels), pixels)
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
            texts: (n, ...) encoded text of each pair, in the memory of the machine.
        """
        scores = []
        size = self._size.current
        for start in range(0, len(image_of_pair), size):
            batch = slice(start, start + size)
            numbers = torch.from_numpy(image_of_pair[batch]).to(self._device)
            scores.append(self._network.score(images[numbers], texts[batch].to(self._device)))
        return torch.cat(scores)

    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts that are not kept: (T, ...) in the memory of the machine."""

        def encode_batch(batch: slice) -> Tensor:
            """Return one batch of encoded texts."""
            return self._network.encode_texts(texts[batch]).cpu()

        return self._text_size.encode_in_batches(len(texts), encode_batch)


class CalledChunkEncoder:
    """Scores the pairs of a chunk with a scorer of another package, which takes whole images of any size.

    Args:
        network: The scorer, on `device`.
        size: Batch size in pairs, adapted while chunks are encoded.
        device: The device.
    """

    def __init__(
        self,
        network: "CalledNetwork",
        size: BatchSize,
        device: torch.device,
    ) -> None:
        self._network = network
        self._size = size
        self._device = device

    def batches(self, chunk: Chunk, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """Yield pairs whose images have one shape (see `ChunkEncoder`)."""
        assert chunk.pair_images is not None
        for stack in chunk.images[0]:
            members = np.flatnonzero(wanted & np.isin(chunk.pair_images, stack.rows))
            yield from _masks(members, len(wanted), lambda: self._size.current)

    def features(self, chunk: Chunk, wanted: np.ndarray) -> Tensor:
        """Return the scores (n, 1) of the n wanted pairs of a chunk."""
        assert chunk.pair_images is not None
        assert chunk.pair_texts is not None
        pairs: list[np.ndarray] = []
        scores: list[Tensor] = []
        with measured_speed(self._size, self._device) as count:
            for stack in chunk.images[0]:
                members = np.flatnonzero(wanted & np.isin(chunk.pair_images, stack.rows))
                if not len(members):
                    continue
                texts = [chunk.texts[number] for number in chunk.pair_texts[members]]
                order = np.argsort(stack.rows)
                images = order[np.searchsorted(stack.rows, chunk.pair_images[members], sorter=order)]
                scores.append(self._score(stack.pixels, images, texts))
                pairs.append(members)
                count(len(members), stack.pixels)
        return select_rows(torch.cat(scores), np.argsort(np.concatenate(pairs)))[:, None]

    def _score(
        self,
        pixels: Tensor,
        images: np.ndarray,
        texts: Sequence[str],
    ) -> Tensor:
        """Return the scores (n,) of n pairs: images (n,) by number among pixels (P, 3, H, W), and texts."""

        def score_batch(batch: slice) -> Tensor:
            """Return the scores of one batch."""
            return self._network.score(select_rows(pixels, images[batch]), texts[batch])

        return self._size.encode_in_batches(len(images), score_batch)


class TextChunkEncoder:
    """Encodes the missing texts of a chunk.

    Args:
        network: The text network, on `device`.
        size: Batch size in texts.
        device: The network's device.
    """

    def __init__(
        self,
        network: "TextNetwork",
        size: BatchSize,
        device: torch.device,
    ) -> None:
        self._network = network
        self._size = size
        self._device = device

    def batches(self, chunk: Chunk, wanted: np.ndarray) -> Iterator[np.ndarray]:
        """Yield as many texts as a batch has (see `ChunkEncoder`)."""
        return _masks(np.flatnonzero(wanted), len(chunk.texts), lambda: self._size.current)

    def features(self, chunk: Chunk, wanted: np.ndarray) -> Tensor:
        """Return the features (n, D) of the n wanted texts of a chunk."""
        texts = [chunk.texts[number] for number in np.flatnonzero(wanted)]

        def encode_batch(batch: slice) -> Tensor:
            """Return the features of one batch."""
            return _forward(self._network, self._network.tokenize(texts[batch]).to(self._device))

        return self._size.encode_in_batches(len(texts), encode_batch)


def _forward(network: nn.Module, batch: "Tensor | TokenBatch") -> Tensor:
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
    return any(message in str(error) for message in TOO_SMALL)


def _is_compiler_error(error: Exception) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
