"""Images are seen as people see them: turned upright by EXIF data, and over white where they are transparent.

Their keys say so; every other image keeps the SHA-256 of its bytes as key, and its pixels.
"""

import hashlib
import io
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from tier4k.extract.images.content import content_key
from tier4k.extract.images.decode import decode, inspect
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.header import PLAIN, ImageHeader, header_of, read_header
from tier4k.extract.images.opening import open_image
from tier4k.tests.builders.images import (
    ORIENTATIONS,
    STORE,
    coloured,
    exif,
    file_bytes,
    on_white,
    png,
    png_chunk,
)

LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
LOSSY = {"JPEG": {"quality": 95}, "AVIF": {"quality": 95}}
PLAIN_KEYS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")


def marked_key(data: bytes) -> bytes:
    return hashlib.sha256(data + b"upright-on-white-1").digest()


def plain_key(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def pillow_exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def jpeg(*segments: bytes) -> bytes:
    """A JPEG with these APP1 segments in front of all others."""
    data = file_bytes(Image.fromarray(coloured()), "JPEG", quality=95)
    parts = [b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content for content in segments]
    return data[:2] + b"".join(parts) + data[2:]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_stored_orientation_is_undone_exactly(kind: str, orientation: int) -> None:
    upright = coloured()
    stored = Image.fromarray(np.ascontiguousarray(STORE[orientation](upright)))
    data = file_bytes(stored, kind, exif=pillow_exif(orientation), **LOSSLESS[kind])
    assert np.array_equal(np.asarray(decode(data)), upright)
    inspect(data)
    assert content_key(data) == (plain_key(data) if orientation == 1 else marked_key(data))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_compressed_tiff_is_turned_once(orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORE[orientation](coloured())))
    data = file_bytes(stored, "TIFF", exif=pillow_exif(orientation), compression="tiff_lzw")
    assert np.array_equal(np.asarray(decode(data)), coloured())


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", LOSSLESS | LOSSY)
def test_an_image_is_turned_as_pillow_turns_it(kind: str, orientation: int) -> None:
    options = (LOSSLESS | LOSSY)[kind]
    data = file_bytes(Image.fromarray(coloured()), kind, exif=pillow_exif(orientation), **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(np.asarray(decode(data)), np.asarray(expected))
    assert read_header(data) == ImageHeader(orientation)


TURNED = {
    "jpeg": jpeg(b"Exif\0\0" + exif(6)),
    "jpeg, big endian": jpeg(b"Exif\0\0" + exif(6, ">")),
    "jpeg, 32 bits": jpeg(b"Exif\0\0" + exif(6, kind=4)),
    "jpeg, big endian, 32 bits": jpeg(b"Exif\0\0" + exif(6, ">", 4)),
    "jpeg, after another segment": jpeg(b"http://ns.adobe.com/xap/1.0/\0<x/>", b"Exif\0\0" + exif(6)),
    "png": png(coloured(), 8, 2, before=png_chunk(b"eXIf", exif(6))),
    "png, after the pixels": png(coloured(), 8, 2, after=png_chunk(b"eXIf", exif(6))),
    "png, as text": png(
        coloured(),
        8,
        2,
        before=png_chunk(
            b"tEXt", b"Raw profile type exif\0\nexif\n      44\n" + (b"Exif\0\0" + exif(6)).hex().encode()
        ),
    ),
}


@pytest.mark.parametrize("case", TURNED)
def test_an_orientation_is_found_wherever_programs_write_it(case: str) -> None:
    data = TURNED[case]
    image = Image.open(io.BytesIO(data))
    image.load()
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape == (37, 24, 3)
    assert np.array_equal(np.asarray(decode(data)), expected)
    assert content_key(data) == marked_key(data)


UPRIGHT = {
    "no EXIF data": jpeg(),
    "orientation 1": jpeg(b"Exif\0\0" + exif(1)),
    "orientation 0": jpeg(b"Exif\0\0" + exif(0)),
    "orientation 9": jpeg(b"Exif\0\0" + exif(9)),
    "EXIF data that end": jpeg(b"Exif\0\0" + exif(6)[:15]),
    "EXIF data of nothing": jpeg(b"Exif\0\0"),
    "EXIF data of something else": jpeg(b"Exif\0\0" + b"XX" + exif(6)[2:]),
    "orientation as text": jpeg(b"Exif\0\0" + exif(6, kind=4).replace(b"\x12\x01\x04", b"\x12\x01\x02")),
    "orientation 1 in a png": png(coloured(), 8, 2, before=png_chunk(b"eXIf", exif(1))),
    "text without EXIF data": png(coloured(), 8, 2, before=png_chunk(b"tEXt", b"Raw profile type exif\0\nx")),
    "bytes after a png": png(coloured(), 8, 2) + png_chunk(b"eXIf", exif(6)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", UPRIGHT)
def test_an_image_without_a_usable_orientation_is_as_before(case: str) -> None:
    data = UPRIGHT[case]
    assert np.array_equal(np.asarray(decode(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert content_key(data) == plain_key(data)


@pytest.mark.parametrize("kind", PLAIN_KEYS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_key_of_an_upright_opaque_image_is_the_hash_of_its_bytes(kind: str, mode: str) -> None:
    data = file_bytes(Image.fromarray(coloured()).convert(mode), kind)
    assert content_key(data) == plain_key(data)
    assert np.array_equal(np.asarray(decode(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("data", [b"", b"x", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM", b"<svg/>"])
def test_bytes_that_are_no_image_have_the_hash_of_the_bytes(data: bytes) -> None:
    assert content_key(data) == plain_key(data)


RGBA = Image.fromarray(coloured(channels=4))
ALPHA = np.asarray(RGBA)[..., 3]
GREY = np.asarray(RGBA.convert("L"))
GREY_ALPHA = Image.merge("LA", (RGBA.convert("L"), RGBA.getchannel("A")))


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0.51),
        ("WEBP", {"lossless": True, "exact": True}, 0.51),
        ("TIFF", {}, 0.51),
        ("TIFF", {"compression": "tiff_lzw"}, 0.51),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 4),
    ],
)
def test_colours_with_alpha_are_composed_over_white(kind: str, options: dict, tolerance: float) -> None:
    data = file_bytes(RGBA, kind, **options)
    expected = on_white(np.asarray(RGBA)[..., :3], ALPHA)
    np.testing.assert_allclose(np.asarray(decode(data)), expected, rtol=0, atol=tolerance)
    assert content_key(data) == marked_key(data)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha_is_composed_over_white(kind: str) -> None:
    data = file_bytes(GREY_ALPHA, kind)
    expected = on_white(np.stack([GREY] * 3, axis=-1), ALPHA)
    np.testing.assert_allclose(np.asarray(decode(data)), expected, rtol=0, atol=0.51)
    assert content_key(data) == marked_key(data)


def test_an_opaque_alpha_channel_changes_the_key_but_not_the_pixels() -> None:
    opaque = Image.fromarray(coloured()).convert("RGBA")
    data = file_bytes(opaque, "PNG")
    assert np.array_equal(np.asarray(decode(data)), coloured())
    assert content_key(data) == marked_key(data)


PALETTE = coloured(1, 16).reshape(16, 3)
NUMBERS = (np.arange(24 * 37).reshape(24, 37) * 7 % 16).astype(np.uint8)


def palette_image() -> Image.Image:
    image = Image.fromarray(NUMBERS, "L")
    image = image.convert("P")
    image.putdata(NUMBERS.ravel().tolist())
    image.putpalette(PALETTE.ravel().tolist())
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_one_transparent_colour_of_a_palette_is_white(kind: str) -> None:
    data = file_bytes(palette_image(), kind, transparency=5)
    expected = PALETTE[NUMBERS].copy()
    expected[NUMBERS == 5] = 255
    assert np.array_equal(np.asarray(decode(data)), expected)
    assert content_key(data) == marked_key(data)


def test_a_palette_with_an_opacity_of_each_colour_is_composed_over_white() -> None:
    opacities = np.arange(16, dtype=np.uint8) * 17
    data = file_bytes(palette_image(), "PNG", transparency=opacities.tobytes())
    expected = on_white(PALETTE[NUMBERS], opacities[NUMBERS])
    np.testing.assert_allclose(np.asarray(decode(data)), expected, rtol=0, atol=0.51)
    assert content_key(data) == marked_key(data)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_grey_of_any_depth_is_white(bits: int) -> None:
    samples = NUMBERS.astype(int) % 2**bits
    level = min(2, 2**bits - 1)
    data = png(samples, bits, 0, before=png_chunk(b"tRNS", level.to_bytes(2, "big")))
    expected = np.round(samples * 255 / (2**bits - 1))
    expected[samples == level] = 255
    assert np.array_equal(np.asarray(decode(data)), np.stack([expected] * 3, axis=-1))
    assert content_key(data) == marked_key(data)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_of_any_depth_is_white(bits: int) -> None:
    factor = (2**bits - 1) // 255
    samples = PALETTE[NUMBERS].astype(int) * factor
    colour = PALETTE[5].astype(">u2") * factor
    data = png(samples, bits, 2, before=png_chunk(b"tRNS", colour.astype(">u2").tobytes()))
    expected = PALETTE[NUMBERS].copy()
    expected[(expected == PALETTE[5]).all(axis=-1)] = 255
    assert np.array_equal(np.asarray(decode(data)), expected)
    assert content_key(data) == marked_key(data)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_turned_transparent_image_is_turned_and_composed(orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORE[orientation](np.asarray(RGBA))))
    data = file_bytes(stored, "PNG", exif=pillow_exif(orientation))
    expected = on_white(np.asarray(RGBA)[..., :3], ALPHA)
    np.testing.assert_allclose(np.asarray(decode(data)), expected, rtol=0, atol=0.51)
    assert read_header(data) == ImageHeader(orientation, is_transparent=True)


SAMPLES = {
    **TURNED,
    **UPRIGHT,
    **{kind: file_bytes(Image.fromarray(coloured()), kind) for kind in PLAIN_KEYS},
    **{f"{kind}, alpha": file_bytes(RGBA, kind) for kind in ("PNG", "WEBP", "TIFF", "AVIF")},
    "palette": file_bytes(palette_image(), "PNG", transparency=5),
    "gif": file_bytes(palette_image(), "GIF", transparency=5),
    "bmp, alpha": file_bytes(RGBA, "BMP"),
}


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: ImageFile.ImageFile) -> None:
        raise AssertionError(f"the pixels of a {image.format} were decoded")

    for plugin in {type(Image.open(io.BytesIO(data))) for data in SAMPLES.values()}:
        monkeypatch.setattr(plugin, "load", load)


@pytest.mark.filterwarnings("ignore")
def test_a_key_needs_no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(map(content_key, SAMPLES.values()))
    forbid_decoding(monkeypatch)
    assert list(map(content_key, SAMPLES.values())) == expected


def truncated(data: bytes, random: np.random.Generator) -> bytes:
    return data[: random.integers(len(data))]


def altered(data: bytes, random: np.random.Generator) -> bytes:
    content = bytearray(data)
    for position in random.integers(min(len(data), 120), size=random.integers(1, 4)):
        content[position] = random.integers(256)
    return bytes(content)


def header_of_pillow(data: bytes) -> ImageHeader:
    try:
        return header_of(open_image(data), data)
    except ImageError:
        return PLAIN


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", [truncated, altered])
@pytest.mark.parametrize("case", SAMPLES)
def test_the_quick_reading_of_headers_agrees_with_pillow_on_damaged_files(
    case: str, damage: Callable[[bytes, np.random.Generator], bytes]
) -> None:
    random = np.random.default_rng(len(case))
    for data in itertools.repeat(SAMPLES[case], 40):
        damaged = damage(data, random)
        assert read_header(damaged) == header_of_pillow(damaged)
