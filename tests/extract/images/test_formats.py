"""Every format that Pillow or one of its plugins decodes is accepted, and a missing plugin is named."""

import hashlib
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, features

from tier4k.extract.images import formats
from tier4k.extract.images.content import content_key
from tier4k.extract.images.decode import decode, inspect
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.formats import image_suffixes
from tier4k.tests.builders.images import coloured, file_bytes

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
HEIF = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(64)
AVIF = b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiafMA1B" + bytes(64)
JXL = b"\xff\x0a" + bytes(64)
JXL_BOX = b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64)
VIDEO = b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(64)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No plugin has been looked for yet, and what a test finds is forgotten."""
    formats._is_ready.cache_clear()
    yield
    formats._is_ready.cache_clear()


def test_suffixes_are_those_of_all_formats() -> None:
    assert image_suffixes() == {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
        *(".ppm", ".pgm", ".pnm", ".avif", ".heic", ".heif", ".jxl"),
    }


@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_portable_pixmaps_are_decoded(mode: str) -> None:
    image = Image.fromarray(coloured()).convert(mode)
    data = file_bytes(image, "PPM")
    assert np.array_equal(np.asarray(decode(data)), np.asarray(image.convert("RGB")))
    inspect(data)


def test_grey_pixmaps_of_16_bits_and_floats_are_refused() -> None:
    for image in (Image.new("I;16", (4, 4)), Image.new("F", (4, 4))):
        with pytest.raises(ImageError, match="more than 8 bits"):
            decode(file_bytes(image, "PPM"))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_an_avif_image_comes_back_nearly_as_it_was() -> None:
    smooth = np.asarray(Image.fromarray(coloured(4, 5)).resize((64, 48), Image.Resampling.BICUBIC))
    data = file_bytes(Image.fromarray(smooth), "AVIF", quality=95)
    assert np.abs(np.asarray(decode(data)).astype(int) - smooth).mean() < 3
    inspect(data)
    assert content_key(data) == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    ("data", "module", "remedy"),
    [
        (HEIC, "pillow_heif", "HEIF images need a library that is missing: `pip install pillow-heif`"),
        (HEIF, "pillow_heif", "`pip install pillow-heif`"),
        (JXL, "pillow_jxl", "JXL images need a library that is missing: `pip install pillow-jxl-plugin`"),
        (JXL_BOX, "pillow_jxl", "`pip install pillow-jxl-plugin`"),
    ],
)
def test_a_missing_plugin_is_named(
    monkeypatch: pytest.MonkeyPatch, data: bytes, module: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # the import fails
    for look in (decode, inspect):
        with pytest.raises(ImageError) as caught:
            look(data)
        assert remedy in str(caught.value)
    assert content_key(data) == hashlib.sha256(data).digest()


def test_a_pillow_without_avif_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "get_supported_modules", lambda: ["pil"])
    with pytest.raises(ImageError, match="AVIF images need .*: `pip install --upgrade pillow`"):
        decode(AVIF)


def test_a_video_in_the_same_container_is_no_image() -> None:
    with pytest.raises(ImageError, match="not an image of the formats"):
        decode(VIDEO)


def test_a_plugin_is_registered_once_and_only_when_an_image_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []
    plugin = ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: registered.append(open_nothing)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.setitem(Image.OPEN, "HEIF", (open_nothing, lambda start: start[4:8] == b"ftyp"))
    decode(file_bytes(Image.fromarray(coloured()), "JPEG"))
    assert not registered
    for _ in range(3):
        with pytest.raises(ImageError, match="not an image of the formats JPEG, .*HEIF, JXL"):
            decode(HEIC)
    assert len(registered) == 1


def open_nothing(file: object, name: str) -> Image.Image:
    raise SyntaxError("damaged")
