"""Formats of image files: their suffixes, and the libraries that Pillow needs for some of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from tier4k.extract.images.errors import ImageError

# Names that Pillow gives to the formats that it always decodes; PPM includes PGM and PNM.
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")

_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
    "JXL": (".jxl",),
}

FORMATS = tuple(_SUFFIXES)

# Brands of the container that AVIF and HEIF share with videos.
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_SHOWN_BOX = 256  # bytes of the first box in which brands are looked for

_JXL_STARTS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")


@dataclass(frozen=True)
class _OptionalFormat:
    """A format that Pillow decodes only with a library.

    Attributes:
        name: Pillow's name of the format.
        register: Makes Pillow decode the format; raises ImportError where the library is missing.
        remedy: The command that installs the library.
    """

    name: str
    register: Callable[[], None]
    remedy: str


def _register_avif() -> None:
    from PIL import features

    if "avif" not in features.get_supported_modules():
        raise ImportError("this Pillow was built without AVIF")


def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _register_jxl() -> None:
    import pillow_jxl  # noqa: F401 - importing it registers the format


_AVIF = _OptionalFormat("AVIF", _register_avif, "pip install --upgrade pillow")
_HEIF = _OptionalFormat("HEIF", _register_heif, "pip install pillow-heif")
_JXL = _OptionalFormat("JXL", _register_jxl, "pip install pillow-jxl-plugin")


def image_suffixes() -> frozenset[str]:
    """Return the suffixes of image files, in lower case, whether or not their libraries are installed."""
    return frozenset().union(*_SUFFIXES.values())


def formats_to_try(data: bytes) -> tuple[str, ...]:
    """Return Pillow's names of the formats that an image may have, by its first bytes.

    Raises:
        ImageError: The image has a format whose library is not installed.
    """
    optional = _optional_format(data)
    if optional is None:
        return PILLOW_FORMATS
    if not _is_ready(optional):
        raise ImageError(f"{optional.name} images need a library that is missing: `{optional.remedy}`")
    return (optional.name,)


@cache
def _is_ready(optional: _OptionalFormat) -> bool:
    """Return whether Pillow decodes a format, after registering its library on the first call."""
    try:
        optional.register()
    except ImportError:
        return False
    return True


def _optional_format(data: bytes) -> _OptionalFormat | None:
    if data.startswith(_JXL_STARTS):
        return _JXL
    if data[4:8] != b"ftyp":
        return None
    brands = _brands(data)
    if brands & _AVIF_BRANDS:
        return _AVIF
    return _HEIF if brands & _HEIF_BRANDS else None


def _brands(data: bytes) -> set[bytes]:
    """Return the brands in the first box of an ISO media file: one at byte 8, and more from byte 16."""
    end = min(int.from_bytes(data[:4], "big"), _SHOWN_BOX)
    return {data[start : start + 4] for start in (8, *range(16, end, 4))}
