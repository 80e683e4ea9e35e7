"""Preprocessing: resize and crop, from a decoded image to the pixels that an encoder sees."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tier4k.cache.text import shortened
from tier4k.extract.images.choices import ImageSize
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.geometry import Geometry, centred, floor_centred, whole
from tier4k.extract.images.resize import resize
from tier4k.extract.images.taps import KERNELS

# Least side of an uncropped image in pixels: encoders halve it five times.
MIN_SIDE = 32
# Most pixels of an uncropped image: the first feature maps of an encoder would take gigabytes.
MAX_WHOLE_PIXELS = 2048 * 4096
# Longest side in pixels that the preprocessing of an encoder in code may have.
MAX_SIDE = 8192
# Largest factor by which an image is enlarged to fill a number of patches.
MAX_SCALE = 100
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# timm's colour beside an image that is smaller than its crop, whatever the encoder's mean.
BORDER = (124, 116, 104)
CROPS = ("center", "floor", "squash", "border")
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

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return the input of an encoder, (3, h, w) uint8, of an image with pixels (H, W, 4) uint8.

        The encoder applies mean and standard deviation on its device.
        """
        height, width = pixels.shape[:2]
        return resize(pixels, self.geometry(width, height), self.interpolation)

    def resized(self, pixels: np.ndarray) -> np.ndarray:
        """Return an image (H, W, 4) uint8 as it is before the crop, (3, h, w) uint8."""
        height, width = pixels.shape[:2]
        return resize(pixels, whole(*self._resized_sides(width, height)), self.interpolation)

    def geometry(self, width: int, height: int) -> Geometry:
        """Return how an image of this size is resized and cropped."""
        resized = self._resized_sides(width, height)
        if self.size is None:
            return whole(*resized)
        if self.crop == "floor":
            return floor_centred(*resized, self.size)
        if self.crop == "border":
            return centred(*resized, self.size, fill=BORDER)
        return centred(*resized, self.size)

    def _resized_sides(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height before the crop of an image of this size."""
        if self.patches is not None:
            columns, rows = patch_grid((width, height), self.multiple, self.patches)
            return columns * self.multiple, rows * self.multiple
        if self.crop == "squash":
            return self.require_resize(), self.require_resize()
        if self.crop == "border":
            return _within(width, height, self.require_resize())
        shortest, longest = sorted((width, height))
        length = self.resize or shortest
        if self.size is None:
            # width x height is length² x longest / shortest.
            longest_allowed = math.isqrt(MAX_WHOLE_PIXELS * shortest // longest)
            length = min(max(length, MIN_SIDE), longest_allowed)
        width = width * length // shortest
        height = height * length // shortest
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


def _within(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return the sides of an image whose longer side becomes `longest`, rounded as timm's ResizeKeepRatio."""
    ratio = max(width / longest, height / longest)
    return max(round(width / ratio), 1), max(round(height / ratio), 1)


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


def image_preprocessing(
    size: int,
    resize: int | None = None,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    interpolation: str = "bicubic",
    crop: str = "center",
) -> Preprocessing:
    """Return the preprocessing of an image encoder in code.

    Args:
        size: Side of the square crop in pixels.
        resize: Length of the shorter side before the crop in pixels; None is `size`.
        mean: Mean of each channel, for values from 0 to 1.
        std: Standard deviation of each channel, for values from 0 to 1.
        interpolation: "bilinear", "bicubic" or "lanczos".
        crop: "center", "floor", "squash" or "border" (see `Preprocessing`).

    Raises:
        ImageError: A value is not valid.
    """
    if interpolation not in KERNELS or crop not in CROPS:
        raise ImageError(
            f"interpolation {interpolation!r} with crop {crop!r} is not valid: use one of "
            f"{', '.join(KERNELS)}, and one of {', '.join(CROPS)}"
        )
    resize = size if resize is None else resize
    for name, side in (("size", size), ("resize", resize)):
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
            raise ImageError(
                f"{name} is {shortened(repr(side), 60)}: use a number of pixels from 1 to {MAX_SIDE}"
            )
    channels = {"mean": _three_numbers("mean", mean), "std": _three_numbers("std", std)}
    if min(channels["std"]) <= 0:
        raise ImageError(f"std is {channels['std']}: use three numbers above 0")
    return Preprocessing("own", size, resize, interpolation, crop, channels["mean"], channels["std"])


def _three_numbers(name: str, values: object) -> tuple[float, ...]:
    """Return the values of three channels.

    Raises:
        ImageError: They are not three finite numbers.
    """
    try:
        numbers = tuple(map(float, values))  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ImageError(
            f"{name} is {shortened(repr(values), 60)}: use three finite numbers, one for each channel"
        )
    return numbers


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
