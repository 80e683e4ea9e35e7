"""Chunks: the inputs that are read together."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.encoders.text_network import TokenBatch
from tier4k.extract.pipeline.handover import SharedPictures


@dataclass(frozen=True)
class Samples:
    """Prepared views of one shape.

    Attributes:
        row: (n,) number within the chunk of the picture of each view.
        view: (n,) number of the view, 0 being the centre.
        pictures: (n, 3, H, W) uint8.
    """

    row: np.ndarray
    view: np.ndarray
    pictures: Tensor


@dataclass(frozen=True)
class Chunk:
    """Inputs that are read together.

    Attributes:
        numbers: (C,) their numbers among all distinct inputs.
        samples: Of pictures: for each source, a preparation with its views, the prepared views by shape.
        tokens: Of texts: their token numbers.
        picture: Of pairs: (C,) row of each pair's picture among the samples, rising.
    """

    numbers: np.ndarray
    samples: tuple[tuple[Samples, ...], ...] = ()
    tokens: TokenBatch | None = None
    picture: np.ndarray | None = None

    def pin_memory(self) -> "Chunk":
        """The same in pinned memory, from which a GPU copies while other work goes on; torch's DataLoader calls this."""
        samples = tuple(
            tuple(Samples(one.row, one.view, one.pictures.pin_memory()) for one in source)
            for source in self.samples
        )
        return Chunk(self.numbers, samples)


class SentChunk:
    """A chunk of pictures on its way from a reading process to the encoding one."""

    def __init__(self, chunk: Chunk) -> None:
        self._numbers = chunk.numbers
        self._places = [[(one.row, one.view) for one in source] for source in chunk.samples]
        self._pictures = SharedPictures([one.pictures for source in chunk.samples for one in source])

    def received(self) -> Chunk:
        """The chunk, in the process that received it."""
        pictures = iter(self._pictures.received())
        samples = tuple(tuple(Samples(*place, next(pictures)) for place in source) for source in self._places)
        return Chunk(self._numbers, samples)

    def pin_memory(self) -> Chunk:
        """The chunk in pinned memory, as `Chunk.pin_memory`."""
        return self.received().pin_memory()


def by_shape(pictures: list[list[Tensor]]) -> tuple[Samples, ...]:
    """Views of pictures, stacked with others of the same shape."""
    places: dict[torch.Size, list[tuple[int, int]]] = {}
    for row, crops in enumerate(pictures):
        for view, tensor in enumerate(crops):
            places.setdefault(tensor.shape, []).append((row, view))
    return tuple(_stacked(pictures, at) for at in places.values())


def _stacked(pictures: list[list[Tensor]], places: list[tuple[int, int]]) -> Samples:
    rows, crops = zip(*places, strict=True)
    return Samples(
        np.array(rows), np.array(crops), torch.stack([pictures[row][view] for row, view in places])
    )
