"""Pictures: decoded from bytes, judged, and prepared for an encoder."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from cache.errors import TierError

if TYPE_CHECKING:
    import torch

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_ASPECT = 100  # the shorter side is scaled up to the encoder's: a strip of one pixel's height would become gigabytes
MAX_PIXELS = 89_478_485  # Pillow's own threshold for a decompression bomb: a quarter of a GiB at 3 bytes a pixel
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# What Pillow raises on damaged input, besides its own errors.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error, MemoryError)


class PictureError(TierError):
    """A picture that cannot be decoded; the message says in what way, without the file's name."""


def decode(data: bytes) -> Image.Image:
    """Decode a picture to RGB, as `PIL.Image.open(...).convert("RGB")` does.

    Raises:
        PictureError: The bytes are empty, no known picture format, truncated, or a decompression bomb.
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
    return picture


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
        size: Side of the square that the encoder sees, in pixels.
        resize: Length of the shorter side before the crop, in pixels.
        interpolation: Filter of the resizing.
        crop: "center", "squash" or "border", in timm's sense.
        mean: Mean of each channel, for values 0..1.
        std: Standard deviation of each channel, for values 0..1.
    """

    name: str
    size: int
    resize: int
    interpolation: str
    crop: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        channels = f"mean {_numbers(self.mean)}, std {_numbers(self.std)}"
        return f"{self.name}: shorter side {self.resize} {self.interpolation}, {self.crop} crop {self.size}, {channels}"

    def transform(self) -> "Callable[[Image.Image], torch.Tensor]":
        """A function from an RGB picture to (3, size, size) uint8. Mean and std are applied by the encoder, on its device."""
        from timm.data.transforms_factory import create_transform

        return create_transform(
            self.size,
            interpolation=self.interpolation,
            # timm resizes to floor(size / crop_pct); half a pixel more keeps the floor at exactly `resize`.
            crop_pct=self.size / (self.resize + 0.5),
            crop_mode=self.crop,
            normalize=False,
        )


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
