"""Chunks: the inputs that are read together."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.encoders.text_network import TokenBatch


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
