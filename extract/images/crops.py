"""Random crops and flips of an image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tier4k.extract.images.preprocessing import WHOLE_VIEW, Preprocessing, _tensor

if TYPE_CHECKING:
    import torch


class RandomCrops:
    """Seeded random crops and flips of a picture, (3, H, W) uint8 each, as TIER-4K's training makes them.

    A view depends on the seed, the picture's key and its own number alone, not on the order or the process in which pictures are read.
    """

    def __init__(self, preprocessing: Preprocessing, crops: "Crops") -> None:
        self._preparation, self._views = preprocessing, crops

    def __call__(self, picture: Image.Image, key: bytes) -> "list[torch.Tensor]":
        """The `views.count` views of an RGB picture with this key."""
        pixels = np.asarray(self._preparation.resized(picture))
        randoms = (
            np.random.default_rng([self._views.seed, number, *key]) for number in range(self._views.count)
        )
        return [random_crop(pixels, self._preparation, random) for random in randoms]


def random_crop(
    pixels: np.ndarray, preprocessing: Preprocessing, random: np.random.Generator
) -> "torch.Tensor":
    """A random crop of a resized picture (H, W, 3) uint8, mirrored in every other case, as (3, h, w) uint8."""
    size, (above, across) = preprocessing.size, pixels.shape[:2]
    width, height = (
        (size, size) if size is not None else (round(across * WHOLE_VIEW), round(above * WHOLE_VIEW))
    )
    left, top = (int(random.integers(room + 1)) for room in (across - width, above - height))
    view = pixels[top : top + height, left : left + width]
    return _tensor(view[:, ::-1] if random.random() < 0.5 else view)


@dataclass(frozen=True)
class Crops:
    """How many random crops and flips are stored beside the centre view, and their seed."""

    count: int = 0
    seed: int = 0

    def __str__(self) -> str:
        return f"centre + {self.count} random crops and flips, seed {self.seed}" if self.count else "centre"


CENTRE_CROP = Crops()
