"""Preprocessing: resize and crop, from a decoded image to the pixels that an encoder sees."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tier4k.extract.images.choices import ImageSize

if TYPE_CHECKING:
    import torch

# Least side of an uncropped image in pixels: encoders halve it five times.
MIN_SIDE = 32
# Most pixels of an uncropped image: the first feature maps of an encoder would take gigabytes.
MAX_WHOLE_PIXELS = 2048 * 4096
# Largest factor by which an image is enlarged to fill a number of patches.
MAX_SCALE = 100
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
    """How a decoded image becomes the input of an encoder in evaluation.

    Attributes:
        name: "reference" (as TIER-4K) or "native" (the encoder's own).
        size: Side of the square crop in pixels; None: the whole image, whatever its shape.
        resize: Length of the shorter side before the crop in pixels; None: the image's own. A whole image is
            enlarged to `MIN_SIDE` and reduced to `MAX_WHOLE_PIXELS`, so that every decodable image can be
            encoded.
        interpolation: Filter of the resizing.
        crop: "center", "squash" or "border" as in timm; "floor": the centre with margins rounded down, as
            Hugging Face crops, black where the image is smaller; "no": no crop.
        mean: Mean of each channel, for values 0..1.
        std: Standard deviation of each channel, for values 0..1.
        multiple: Sides of a whole image are rounded to multiples of this number of pixels, because
            transformers cut an image into whole patches.
        patches: Largest number of patches, with sides of `multiple` pixels, to which a whole image is resized
            (NaFlex). None: `resize` decides the size.
    """

    name: str
    size: int | None
    resize: int | None
    interpolation: str
    crop: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    multiple: int = 1
    patches: int | None = None

    def __str__(self) -> str:
        """Return the text that a signature holds: stores are found by it."""
        name = self.name
        if self.image_size is not None:
            name = f"{self.name} at {self.image_size}"
        cropped = "no crop" if self.size is None else f"{self.crop} crop {self.size}"
        if self.multiple > 1:
            cropped = f"{cropped}, sides multiples of {self.multiple}"
        scaled = "own size"
        if self.patches is not None:
            scaled = f"at most {self.patches} patches {self.interpolation}"
        elif self.resize is not None:
            scaled = f"shorter side {self.resize} {self.interpolation}"
        return f"{name}: {scaled}, {cropped}, mean {_numbers(self.mean)}, std {_numbers(self.std)}"

    @property
    def image_size(self) -> ImageSize | None:
        """The size that was passed to `whole`; None if the preprocessing itself decides the size."""
        if self.size is not None or self.patches is not None:
            return None
        return self.resize or "full"

    def whole(self, image_size: ImageSize, multiple: int = 1) -> "Preprocessing":
        """Return this preprocessing without a crop.

        Args:
            image_size: Pixels of the shorter side, or "full" for the image's own size.
            multiple: The sides are rounded to the nearest multiples of this number of pixels.
        """
        resize = None if image_size == "full" else image_size
        return replace(self, size=None, resize=resize, crop="no", multiple=multiple, patches=None)

    def transform(self) -> "Callable[[Image.Image], torch.Tensor]":
        """Return a function from an RGB image to (3, H, W) uint8.

        The encoder applies mean and standard deviation on its device.
        """
        if self.size is None:
            return _Uncropped(self)
        if self.crop == "floor":
            return _CentreCrop(self, self.size)
        from timm.data.transforms_factory import create_transform

        return create_transform(
            self.size,
            interpolation=self.interpolation,
            # timm resizes to floor(size / crop_pct); half a pixel more keeps the floor at exactly `resize`.
            crop_pct=self.size / (self.require_resize() + 0.5),
            crop_mode=self.crop,
            normalize=False,
        )

    def resized(self, image: Image.Image) -> Image.Image:
        """Return the image before the crop."""
        width, height = self._resized_sides(image)
        if image.size == (width, height):
            return image
        return image.resize((width, height), FILTERS[self.interpolation])

    def _resized_sides(self, image: Image.Image) -> tuple[int, int]:
        """Return width and height before the crop."""
        if self.patches is not None:
            columns, rows = patch_grid(image.size, self.multiple, self.patches)
            return columns * self.multiple, rows * self.multiple
        shortest, longest = sorted(image.size)
        length = self.resize or shortest
        if self.size is None:
            # width x height is length² x longest / shortest.
            longest_allowed = math.isqrt(MAX_WHOLE_PIXELS * shortest // longest)
            length = min(max(length, MIN_SIDE), longest_allowed)
        width = image.width * length // shortest
        height = image.height * length // shortest
        if self.multiple > 1:
            return self._whole_multiples(width, height)
        return width, height

    def _whole_multiples(self, width: int, height: int) -> tuple[int, int]:
        """Return the nearest sides that are multiples, within the limits of a whole image."""
        least = math.ceil(MIN_SIDE / self.multiple) * self.multiple
        nearest = [max(nearest_multiple(side, self.multiple), least) for side in (width, height)]
        if nearest[0] * nearest[1] > MAX_WHOLE_PIXELS:
            nearest = [max(side // self.multiple * self.multiple, least) for side in (width, height)]
        return nearest[0], nearest[1]

    def require_resize(self) -> int:
        """Return `resize` of a preprocessing that crops, which always has one."""
        assert self.resize is not None
        return self.resize


class _Uncropped:
    """From an RGB image to (3, H, W) uint8 without a crop.

    This is a class, because worker processes receive it pickled.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing

    def __call__(self, image: Image.Image) -> "torch.Tensor":
        return to_tensor(self._preprocessing.resized(image))


class _CentreCrop:
    """From an RGB image to its centre (3, size, size) uint8, odd margins rounded down at the top and left.

    torchvision rounds half a pixel up instead: a margin of 3 pixels becomes 2 and 1.
    """

    def __init__(self, preprocessing: Preprocessing, size: int) -> None:
        self._preprocessing = preprocessing
        self._size = size

    def __call__(self, image: Image.Image) -> "torch.Tensor":
        resized = self._preprocessing.resized(image)
        left = (resized.width - self._size) // 2
        top = (resized.height - self._size) // 2
        return to_tensor(resized.crop((left, top, left + self._size, top + self._size)))


def to_tensor(image: Image.Image | np.ndarray) -> "torch.Tensor":
    """Return an RGB image, or its pixels (H, W, 3) uint8, as (3, H, W) uint8."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def nearest_multiple(length: int, multiple: int) -> int:
    """Return the positive multiple of `multiple` nearest to a length; of two equally near, the larger."""
    return max((length + multiple // 2) // multiple, 1) * multiple


def patch_grid(
    size: tuple[int, int],
    patch: int,
    patches: int,
) -> tuple[int, int]:
    """Return the columns and rows of patches that cover an image once it is resized for a NaFlex network.

    The image keeps its shape and gets the largest size that at most `patches` patches cover.

    Args:
        size: Width and height of the image in pixels.
        patch: Side of a patch in pixels.
        patches: Largest number of patches.
    """
    width, height = size
    # At the largest size, one of the sides is a whole number of patches.
    width_scale, width_columns, width_rows = _largest_scale(width, height, patch, patches)
    height_scale, height_rows, height_columns = _largest_scale(height, width, patch, patches)
    by_width = (width_scale, width_columns, width_rows)
    by_height = (height_scale, height_columns, height_rows)
    _, columns, rows = max(by_width, by_height)
    return columns, rows


def _largest_scale(
    side: int,
    other_side: int,
    patch: int,
    patches: int,
) -> tuple[Fraction, int, int]:
    """Return the largest scale at which one side of an image is a whole number of patches.

    Returns:
        The scale, at most `MAX_SCALE`, and the numbers of patches along `side` and `other_side`; (0, 1, 1) if
        more than `patches` patches are needed at every scale.
    """
    # `count` patches along the side need at least count² x other_side / side patches.
    most = min(math.isqrt(patches * side // other_side), patches, math.ceil(MAX_SCALE * side / patch))
    for count in range(max(most, 1), 0, -1):
        scale = min(Fraction(count * patch, side), Fraction(MAX_SCALE))
        other_count = max(math.ceil(scale * other_side / patch), 1)
        if count * other_count <= patches:
            return scale, count, other_count
    return Fraction(0), 1, 1


def reference(size: int, resize: int) -> Preprocessing:
    """Return TIER-4K's preprocessing: bilinear resize, centre crop, ImageNet statistics for every encoder.

    Args:
        size: Side of the crop in pixels.
        resize: Length of the shorter side before the crop in pixels.
    """
    return Preprocessing("reference", size, resize, "bilinear", "center", IMAGENET_MEAN, IMAGENET_STD)


def native(
    size: int,
    resize: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    interpolation: str = "bicubic",
    crop: str = "center",
) -> Preprocessing:
    """Return an encoder's own preprocessing, as timm's configuration describes it.

    Args:
        size: Side of the crop in pixels.
        resize: `size` over timm's crop_pct, rounded down.
        mean, std: Of each channel, for values 0..1.
        interpolation: Filter of the resizing.
        crop: timm's crop mode, or "floor".
    """
    return Preprocessing("native", size, resize, interpolation, crop, mean, std)


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
