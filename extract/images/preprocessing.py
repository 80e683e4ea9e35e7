"""Preprocessing: from a decoded image to a network's input."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tier4k.extract.images.choices import ImageSize

if TYPE_CHECKING:
    import torch


MIN_SIDE = 32  # of a whole picture: encoders halve it five times

MAX_WHOLE_PIXELS = (
    2048 * 4096
)  # of a whole picture: more would need gigabytes for the first maps of its encoder

WHOLE_VIEW = (
    224 / 256
)  # sides of a random view of a picture that is not cropped, in the proportion of TIER-4K's crops

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

IMAGENET_MEAN = (0.485, 0.456, 0.406)

IMAGENET_STD = (0.229, 0.224, 0.225)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded picture becomes the input of an encoder; evaluation only.

    Attributes:
        name: "reference" (as TIER-4K) or "native" (as the encoder's own timm configuration says).
        size: Side of the square that the encoder sees, in pixels; None: the whole picture, whatever its shape.
        resize: Length of the shorter side before the crop, in pixels; None: as the picture is. A whole picture that has a side of less than
            `MIN_SIDE` pixels is enlarged to it, and one of more than `MAX_WHOLE_PIXELS` in all is reduced to that, so that every picture
            that can be decoded can be encoded.
        interpolation: Filter of the resizing.
        crop: "center", "squash" or "border", in timm's sense; "floor" is the centre with margins rounded down, as Hugging Face crops.
        mean: Mean of each channel, for values 0..1.
        std: Standard deviation of each channel, for values 0..1.
    """

    name: str
    size: int | None
    resize: int | None
    interpolation: str
    crop: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        scaled = "own size" if self.resize is None else f"shorter side {self.resize} {self.interpolation}"
        cut = "no crop" if self.size is None else f"{self.crop} crop {self.size}"
        name = self.name if self.size is not None else f"{self.name} at {self.resize or 'full'}"
        return f"{name}: {scaled}, {cut}, mean {_numbers(self.mean)}, std {_numbers(self.std)}"

    def whole(self, image_size: ImageSize) -> "Preprocessing":
        """The same without a crop: the shorter side at `image_size` pixels, or the picture at its own size ("full")."""
        return replace(self, size=None, resize=None if image_size == "full" else image_size, crop="no")

    def transform(self) -> "Callable[[Image.Image], torch.Tensor]":
        """A function from an RGB picture to (3, H, W) uint8. Mean and std are applied by the encoder, on its device."""
        if self.size is None:
            return _Whole(self)
        if self.crop == "floor":
            return _Centre(self, self.size)
        from timm.data.transforms_factory import create_transform

        return create_transform(
            self.size,
            interpolation=self.interpolation,
            # timm resizes to floor(size / crop_pct); half a pixel more keeps the floor at exactly `resize`.
            crop_pct=self.size / (self.require_resize() + 0.5),
            crop_mode=self.crop,
            normalize=False,
        )

    def resized(self, picture: Image.Image) -> Image.Image:
        """The picture before the crop."""
        shortest, longest = sorted(picture.size)
        length = self.resize or shortest
        if self.size is None:  # width x height is length² x longest / shortest
            length = min(max(length, MIN_SIDE), math.isqrt(MAX_WHOLE_PIXELS * shortest // longest))
        width, height = (side * length // shortest for side in picture.size)
        return (
            picture
            if picture.size == (width, height)
            else picture.resize((width, height), FILTERS[self.interpolation])
        )

    def require_resize(self) -> int:
        """`resize` of a preparation that crops, which always has one."""
        assert self.resize is not None
        return self.resize


class _Whole:
    """A picture without a crop, as (3, H, W) uint8."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preparation = preprocessing

    def __call__(self, picture: Image.Image) -> "torch.Tensor":
        return _tensor(self._preparation.resized(picture))


class _Centre:
    """The centre of a picture, as (3, size, size) uint8; where a margin is odd, the smaller part of it is above and at the left.

    torchvision rounds the half instead, so that a margin of 3 pixels becomes 2 and 1.
    """

    def __init__(self, preprocessing: Preprocessing, size: int) -> None:
        self._preparation, self._size = preprocessing, size

    def __call__(self, picture: Image.Image) -> "torch.Tensor":
        resized = self._preparation.resized(picture)
        left, top = ((side - self._size) // 2 for side in resized.size)
        return _tensor(resized.crop((left, top, left + self._size, top + self._size)))


def _tensor(picture: Image.Image | np.ndarray) -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def reference(size: int, resize: int) -> Preprocessing:
    """TIER-4K's: shorter side to `resize` (bilinear), centre crop of `size`, ImageNet statistics for every encoder."""
    return Preprocessing("reference", size, resize, "bilinear", "center", IMAGENET_MEAN, IMAGENET_STD)


def native(
    size: int,
    resize: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    interpolation: str = "bicubic",
    crop: str = "center",
) -> Preprocessing:
    """An encoder's own, from timm's configuration of it; `resize` is `size` over timm's crop_pct, rounded down."""
    return Preprocessing("native", size, resize, interpolation, crop, mean, std)


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
