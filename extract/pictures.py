"""Pictures: decoded from bytes, judged, and prepared for an encoder."""

import io
import math
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from cache.errors import TierError
from extract.choices import ImageSize

if TYPE_CHECKING:
    import torch

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_ASPECT = 100  # the shorter side is scaled up to the encoder's: a strip of one pixel's height would become gigabytes
MAX_PIXELS = 89_478_485  # Pillow's own threshold for a decompression bomb: a quarter of a GiB at 3 bytes a pixel
MIN_SIDE = 32  # of a whole picture: encoders halve it five times
MAX_WHOLE_PIXELS = 2048 * 4096  # of a whole picture: more would need gigabytes for the first maps of its encoder
WHOLE_VIEW = 224 / 256  # sides of a random view of a picture that is not cropped, in the proportion of TIER-4K's crops
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# What Pillow raises on damaged input, besides its own errors.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error, MemoryError)


class PictureError(TierError):
    """A picture that cannot be decoded; the message says in what way, without the file's name."""


def decode(data: bytes) -> Image.Image:
    """Decode a picture to RGB, as `PIL.Image.open(...).convert("RGB")` does.

    Raises:
        PictureError: The bytes are empty, no known picture format, truncated, a decompression bomb, or grey of more than 8 bits.
    """
    return _load(_open(data)).convert("RGB")


def inspect(data: bytes) -> None:
    """Raise PictureError where `decode` would. JPEGs are decoded at an eighth of their size, which still reads every byte."""
    picture = _open(data)
    picture.draft("RGB", (max(picture.width // 8, 1), max(picture.height // 8, 1)))
    _load(picture)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise PictureError("the file has zero bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise PictureError(f"the picture is larger than {MAX_PIXELS:,} pixels (decompression bomb)") from None
    except UnidentifiedImageError:
        raise PictureError(f"not a picture of the formats {', '.join(FORMATS)}") from None
    except DECODING_ERRORS as error:
        raise PictureError(f"cannot be decoded ({error})") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise PictureError(f"{picture.width} x {picture.height} is larger than {MAX_PIXELS:,} pixels (decompression bomb)")
    if max(picture.size) > MAX_ASPECT * min(picture.size):
        raise PictureError(f"{picture.width} x {picture.height}: one side is more than {MAX_ASPECT} times the other")
    require_8_bits(picture)
    return picture


def require_8_bits(picture: Image.Image) -> None:
    """Raise PictureError for grey of 16 or 32 bits, which Pillow's conversion to RGB cuts off at 255: nearly all of it becomes white."""
    if picture.mode[0] in "IF":
        raise PictureError(f"its grey has more than 8 bits (Pillow's mode {picture.mode}) and would become white: save it with 8 bits")


def _load(picture: Image.Image) -> Image.Image:
    try:
        picture.load()
    except DECODING_ERRORS as error:
        what = "truncated" if "truncated" in str(error) else "cannot be decoded"
        raise PictureError(f"{what} ({error})") from error
    return picture


@dataclass(frozen=True)
class Preparation:
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

    def whole(self, image_size: ImageSize) -> "Preparation":
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
        return picture if picture.size == (width, height) else picture.resize((width, height), FILTERS[self.interpolation])

    def require_resize(self) -> int:
        """`resize` of a preparation that crops, which always has one."""
        assert self.resize is not None
        return self.resize


class _Whole:
    """A picture without a crop, as (3, H, W) uint8."""

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation

    def __call__(self, picture: Image.Image) -> "torch.Tensor":
        return _tensor(self._preparation.resized(picture))


class _Centre:
    """The centre of a picture, as (3, size, size) uint8; where a margin is odd, the smaller part of it is above and at the left.

    torchvision rounds the half instead, so that a margin of 3 pixels becomes 2 and 1.
    """

    def __init__(self, preparation: Preparation, size: int) -> None:
        self._preparation, self._size = preparation, size

    def __call__(self, picture: Image.Image) -> "torch.Tensor":
        resized = self._preparation.resized(picture)
        left, top = ((side - self._size) // 2 for side in resized.size)
        return _tensor(resized.crop((left, top, left + self._size, top + self._size)))


class RandomViews:
    """Seeded random crops and flips of a picture, (3, H, W) uint8 each, as TIER-4K's training makes them.

    A view depends on the seed, the picture's key and its own number alone, not on the order or the process in which pictures are read.
    """

    def __init__(self, preparation: Preparation, views: "Views") -> None:
        self._preparation, self._views = preparation, views

    def __call__(self, picture: Image.Image, key: bytes) -> "list[torch.Tensor]":
        """The `views.count` views of an RGB picture with this key."""
        pixels = np.asarray(self._preparation.resized(picture))
        randoms = (np.random.default_rng([self._views.seed, number, *key]) for number in range(self._views.count))
        return [random_view(pixels, self._preparation, random) for random in randoms]


def random_view(pixels: np.ndarray, preparation: Preparation, random: np.random.Generator) -> "torch.Tensor":
    """A random crop of a resized picture (H, W, 3) uint8, mirrored in every other case, as (3, h, w) uint8."""
    size, (above, across) = preparation.size, pixels.shape[:2]
    width, height = (size, size) if size is not None else (round(across * WHOLE_VIEW), round(above * WHOLE_VIEW))
    left, top = (int(random.integers(room + 1)) for room in (across - width, above - height))
    view = pixels[top : top + height, left : left + width]
    return _tensor(view[:, ::-1] if random.random() < 0.5 else view)


@dataclass(frozen=True)
class Views:
    """How many random crops and flips are stored beside the centre view, and their seed."""

    count: int = 0
    seed: int = 0

    def __str__(self) -> str:
        return f"centre + {self.count} random crops and flips, seed {self.seed}" if self.count else "centre"


CENTRE_ONLY = Views()


def _tensor(picture: Image.Image | np.ndarray) -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def reference(size: int, resize: int) -> Preparation:
    """TIER-4K's: shorter side to `resize` (bilinear), centre crop of `size`, ImageNet statistics for every encoder."""
    return Preparation("reference", size, resize, "bilinear", "center", IMAGENET_MEAN, IMAGENET_STD)


def native(
    size: int, resize: int, mean: tuple[float, ...], std: tuple[float, ...], interpolation: str = "bicubic", crop: str = "center"
) -> Preparation:
    """An encoder's own, from timm's configuration of it; `resize` is `size` over timm's crop_pct, rounded down."""
    return Preparation("native", size, resize, interpolation, crop, mean, std)


def read_bytes(path: Path) -> bytes:
    """The file's bytes; PictureError where the system refuses them."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot be read ({error.strerror})") from error


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
