"""Encode: one step per encoder turns chunks into features."""

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork, TokenBatch
from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.chunks import Chunk
from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.pipeline.work import Work

if TYPE_CHECKING:
    from tier4k.extract.scorers.networks import PairNetwork


TOO_SMALL = (
    "Kernel size can't be greater than actual input size",
    "Output size is too small",
)  # in torch's words


class _Step(Protocol):
    """Makes features of chunks of inputs."""

    @property
    def batch_size(self) -> int:
        """How many inputs go through the network at once, by now."""

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Features (n, ...) of the n wanted (C,) inputs of a chunk."""


class ImageStep:
    """Encodes the pictures of a chunk with one network."""

    def __init__(
        self, network: ImageNetwork, source: int, crops: int, size: BatchSize, device: torch.device
    ) -> None:
        self._network, self._source, self._views, self._size, self._device = (
            network,
            source,
            crops,
            size,
            device,
        )

    @property
    def batch_size(self) -> int:
        return self._size.current

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Features (n, D) of the n wanted pictures of a chunk, (n, V, D) where there are V > 1 views."""
        place = np.cumsum(wanted) - 1
        out: np.ndarray | None = None
        start, pixels = time.perf_counter(), 0
        for one in chunk.samples[self._source]:
            keep = wanted[one.row]
            pictures = one.pictures if keep.all() else one.pictures[torch.from_numpy(keep)]
            if not len(pictures):
                continue
            encoded = self._encode(pictures).numpy()
            out = (
                np.empty((int(wanted.sum()), self._views, encoded.shape[1]), encoded.dtype)
                if out is None
                else out
            )
            out[place[one.row[keep]], one.view[keep]] = encoded
            pixels += pictures[:, 0].numel()
        assert out is not None
        self._size.measured(pixels, time.perf_counter() - start)
        return out[:, 0] if self._views == 1 else out

    def _encode(self, pictures: Tensor) -> Tensor:
        """Features (n, D) of prepared pictures (n, 3, H, W), batch by batch."""
        return self._size.through(
            len(pictures),
            lambda at: _through(self._network, pictures[at].to(self._device, non_blocking=True)),
        ).cpu()


class _PairStep:
    """Scores the pairs of a chunk, all of them missing. Each picture is encoded once, and each text when it is first met."""

    def __init__(
        self, work: Work, network: "PairNetwork", text_batch_size: int, size: BatchSize, device: torch.device
    ) -> None:
        self._network, self._text_batch_size, self._size, self._device = (
            network,
            text_batch_size,
            size,
            device,
        )
        self._prompt_of, prompts = pd.factorize(work.inputs["prompt"])
        self._prompts: list[str] = prompts.tolist()
        self._encoded: dict[int, Tensor] = {}

    @property
    def batch_size(self) -> int:
        return self._size.current

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Scores (n, 1) of the pairs."""
        assert chunk.picture is not None
        assert wanted.all()
        (samples,) = chunk.samples[0]  # every picture has the network's shape
        start = time.perf_counter()
        texts, owner = self._texts(self._prompt_of[chunk.numbers]), chunk.picture

        def score(place: slice) -> Tensor:
            pictures = self._network.encode_pictures(
                samples.pictures[place].to(self._device, non_blocking=True)
            )
            pairs = range(*np.searchsorted(owner, (place.start, place.stop)))
            parts = [pairs[at : at + self._size.current] for at in range(0, len(pairs), self._size.current)]
            return torch.cat(
                [self._network.score(pictures[owner[part] - place.start], texts[part]) for part in parts]
            )

        scores = self._size.through(len(samples.pictures), score).cpu().numpy()
        self._size.measured(samples.pictures[:, 0].numel(), time.perf_counter() - start)
        return scores[:, None]

    def _texts(self, numbers: np.ndarray) -> Tensor:
        """Texts (n, ...) of these numbers, encoded."""
        new = [number for number in dict.fromkeys(numbers.tolist()) if number not in self._encoded]
        for start in range(0, len(new), self._text_batch_size):
            part = new[start : start + self._text_batch_size]
            encoded = self._network.encode_texts([self._prompts[number] for number in part])
            self._encoded |= dict(zip(part, encoded, strict=True))
        return torch.stack([self._encoded[number] for number in numbers.tolist()])


class _TextStep:
    """Encodes the texts of a chunk, all of them missing."""

    def __init__(self, network: TextNetwork, batch_size: int, device: torch.device) -> None:
        self._network, self._device = network, device
        self.batch_size = batch_size

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Features (n, D) of the texts."""
        assert chunk.tokens is not None
        assert wanted.all()
        return _through(self._network, chunk.tokens.to(self._device)).cpu().numpy()


def _through(network: nn.Module, batch: Tensor | TokenBatch) -> Tensor:
    try:
        return network(batch)
    except Exception as error:
        if isinstance(batch, Tensor) and any(words in str(error) for words in TOO_SMALL):
            height, width = batch.shape[2:]
            what = f"a view of {width} x {height} pixels is too small for this encoder"
            raise ExtractionError(f"{what}: use a larger --image-size") from error
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        why = str(error).strip().splitlines()[0]
        raise ExtractionError(
            f"--compile does not work here ({why}): it needs a C++ compiler; leave it out"
        ) from error
