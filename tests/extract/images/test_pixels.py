"""The fast decoders give the pixels and errors of `decode`, or leave a file to Pillow."""

import io
import logging
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tier4k.extract.images import fast_decoders
from tier4k.extract.images.decode import decode
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.fast_decoders import choose_decoders, fast_decoder
from tier4k.extract.images.opening import MAX_PIXELS
from tier4k.extract.images.pixels import decode_pixels
from tier4k.tests.builders.data import make_picture
from tier4k.tests.builders.images import ORIENTATIONS, coloured, exif, file_bytes, png, png_chunk

SIZES = [(1, 1), (2, 3), (7, 9), (8, 8), (16, 17), (33, 31), (100, 1), (3, 200)]
CHANGED_BYTES = 400  # of each file in the long test

Outcome = tuple[object, object]


def picture(size: tuple[int, int] = (45, 37)) -> Image.Image:
    return make_picture(1, size)


def outcome(function: Callable[[bytes], object], data: bytes) -> Outcome:
    """Pixels and shape, or the class and the message of the error."""
    try:
        pixels = np.asarray(function(data))[..., :3]
    except ImageError as error:
        return type(error), str(error)
    return pixels.tobytes(), pixels.shape


def fast(data: bytes) -> np.ndarray | None:
    """The pixels of the fast decoder; None where Pillow decodes."""
    decoder = fast_decoder(data)
    return decoder(data) if decoder else None


def subsampled(subsampling: str) -> bytes:
    pixels = np.ascontiguousarray(np.asarray(picture()))
    return simplejpeg.encode_jpeg(pixels, 85, colorsubsampling=subsampling)


def with_adobe_transform(transform: int) -> bytes:
    """A JPEG of four colours whose Adobe marker says how they are meant: 0 is CMYK, 2 is YCCK."""
    data = bytearray(file_bytes(picture().convert("CMYK"), "JPEG"))
    data[data.index(b"Adobe") + 11] = transform
    return bytes(data)


def with_arithmetic_codes() -> bytes:
    data = bytearray(file_bytes(picture(), "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = 0xC9
    return bytes(data)


def with_text(**texts: str) -> bytes:
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    return file_bytes(picture(), "PNG", pnginfo=info, dpi=(72, 72), icc_profile=b"a profile")


def two_images() -> bytes:
    out = io.BytesIO()
    picture().save(out, "MPO", save_all=True, append_images=[picture()])
    return out.getvalue()


def wrong_checksum() -> bytes:
    """A PNG that Pillow decodes, as it does not look at the checksum of the pixels."""
    data = file_bytes(picture(), "PNG")
    end = data.index(b"IEND") - 8
    return data[:end] + bytes(4) + data[end + 4 :]


def with_frame(width: int, height: int) -> bytes:
    """A PNG that places its pixels as a frame of an animation, which Pillow obeys though there is none."""
    frame = struct.pack(">5I2H2B", 0, width, height, 1, 2, 0, 0, 0, 0)
    return png(coloured(), 8, 2, before=png_chunk(b"fcTL", frame))


def filtered(kind: int) -> bytes:
    """A PNG whose lines all have one filter; random bytes are its residues."""
    lines = np.random.default_rng(kind).integers(0, 256, (20, 1 + 3 * 30), np.uint8)
    lines[:, 0] = kind
    return png_of_lines(lines.tobytes(), 30, 20)


def png_of_lines(lines: bytes, width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


# Files that the fast decoders must decode themselves, or the extraction would be slow.
FAST = {
    "jpeg": lambda: file_bytes(picture(), "JPEG", quality=90),
    **{f"jpeg {name}": lambda name=name: subsampled(name) for name in ("444", "422", "420", "440", "411")},
    "jpeg, grey": lambda: file_bytes(picture().convert("L"), "JPEG"),
    "jpeg, stored as RGB": lambda: file_bytes(picture(), "JPEG", keep_rgb=True),
    "jpeg, progressive": lambda: file_bytes(picture(), "JPEG", progressive=True),
    "jpeg, optimised": lambda: file_bytes(picture(), "JPEG", optimize=True),
    "jpeg, with restarts": lambda: file_bytes(picture(), "JPEG", restart_marker_blocks=2),
    "jpeg, upright": lambda: file_bytes(picture(), "JPEG", exif=b"Exif\0\0" + exif(1)),
    "jpeg, with a comment": lambda: file_bytes(picture(), "JPEG", comment=b"a prompt", icc_profile=b"x" * 99),
    "png": lambda: file_bytes(picture(), "PNG"),
    "png, with texts": lambda: with_text(parameters="a red fox", Software="a tool"),
    "png, uncompressed": lambda: file_bytes(picture(), "PNG", compress_level=0),
    **{f"png, filter {kind}": lambda kind=kind: filtered(kind) for kind in range(5)},
}

# Files that only Pillow decodes, or refuses.
BY_PILLOW = {
    "jpeg, CMYK": lambda: file_bytes(picture().convert("CMYK"), "JPEG"),
    "jpeg, CMYK without inversion": lambda: with_adobe_transform(0),
    "jpeg, YCCK": lambda: with_adobe_transform(2),
    "jpeg, arithmetic codes": with_arithmetic_codes,
    "jpeg, two images": two_images,
    **{
        f"jpeg, turned {turn}": lambda turn=turn: file_bytes(picture(), "JPEG", exif=b"Exif\0\0" + exif(turn))
        for turn in ORIENTATIONS
        if turn > 1
    },
    "png, transparent": lambda: file_bytes(picture().convert("RGBA"), "PNG"),
    "png, grey": lambda: file_bytes(picture().convert("L"), "PNG"),
    "png, palette": lambda: file_bytes(picture().convert("P"), "PNG"),
    "png, 16 bits": lambda: png(coloured().astype(int) * 257, 16, 2),
    "png, a transparent colour": lambda: png(coloured(), 8, 2, before=png_chunk(b"tRNS", bytes(6))),
    "png, turned": lambda: png(coloured(), 8, 2, before=png_chunk(b"eXIf", exif(6))),
    "png, turned after the pixels": lambda: png(coloured(), 8, 2, after=png_chunk(b"eXIf", exif(6))),
    "png, a frame without an animation": lambda: with_frame(2, 2),
    "png, an empty frame without an animation": lambda: with_frame(0, 0),
    "png, a wrong checksum of the pixels": wrong_checksum,
    "png, unknown filter": lambda: filtered(5),
    "png, too few lines": lambda: png_of_lines(bytes(91 * 10), 30, 20),
    "png, too many lines": lambda: png_of_lines(bytes(91 * 21), 30, 20),
    "webp": lambda: file_bytes(picture(), "WEBP"),
    "empty": lambda: b"",
    "text": lambda: b"<svg/>",
}


@pytest.mark.parametrize("name", FAST)
def test_usual_files_are_decoded_fast_and_as_by_pillow(name: str) -> None:
    data = FAST[name]()
    pixels = fast(data)
    assert pixels is not None and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(pixels[..., :3], expected)
    assert np.array_equal(decode_pixels(data)[..., :3], expected)


@pytest.mark.parametrize("name", BY_PILLOW)
def test_unusual_files_are_left_to_pillow(name: str) -> None:
    data = BY_PILLOW[name]()
    assert fast(data) is None
    assert outcome(decode_pixels, data) == outcome(decode, data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", SIZES)
def test_small_and_odd_sizes(size: tuple[int, int], kind: str) -> None:
    for mode in ("RGB", "L"):
        data = file_bytes(picture(size).convert(mode), kind)
        assert outcome(decode_pixels, data) == outcome(decode, data)


@pytest.mark.parametrize("size", [(20_000, 1), (int(MAX_PIXELS * 1.01 / 5000), 5001), (65_000, 65_000)])
def test_a_size_that_decode_refuses_is_refused_alike(size: tuple[int, int]) -> None:
    jpeg, image = bytearray(file_bytes(picture(), "JPEG")), bytearray(file_bytes(picture(), "PNG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = b"".join(side.to_bytes(2, "big") for side in reversed(size))
    header = b"".join(side.to_bytes(4, "big") for side in size) + bytes(image[24:29])
    for data in (bytes(jpeg), bytes(image[:8]) + png_chunk(b"IHDR", header) + bytes(image[33:])):
        found = outcome(decode_pixels, data)
        assert found[0] is ImageError and found == outcome(decode, data)


@pytest.mark.parametrize("name", ["jpeg", "jpeg, progressive", "jpeg, upright", "png", "png, with texts"])
def test_a_truncated_file_is_refused_as_by_decode(name: str) -> None:
    data = FAST[name]()
    for end in [*range(0, len(data), 37), *range(len(data) - 14, len(data))]:
        assert outcome(decode_pixels, data[:end]) == outcome(decode, data[:end])


@pytest.mark.slow
def test_a_file_with_changed_bytes_is_what_it_is_to_decode() -> None:
    """Most changes are in the headers, whose meaning is richest."""
    chance = random.Random(0)
    decoded_fast = 0
    for name in [*FAST, "jpeg, turned 6", "jpeg, two images", "png, turned after the pixels"]:
        base = (FAST.get(name) or BY_PILLOW[name])()
        for _ in range(CHANGED_BYTES):
            data = bytearray(base)
            place = chance.randrange(min(len(data), 700) if chance.random() < 0.5 else len(data))
            data[place] = chance.choice(
                [chance.randrange(256), data[place] ^ 1 << chance.randrange(8), 0, 255]
            )
            assert outcome(decode_pixels, bytes(data)) == outcome(decode, bytes(data)), (name, place)
            with suppress(ImageError):
                decoded_fast += fast(bytes(data)) is not None
    assert decoded_fast > 100


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pillow_decodes_where_the_fast_decoder_differs_and_the_log_says_so(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = fast_decoders._DECODERS[kind]
    monkeypatch.setitem(fast_decoders._DECODERS, kind, lambda data: decoder(data) ^ 1)
    fast_decoders._chosen.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            choose_decoders()
        data = file_bytes(picture(), kind)
        assert fast_decoder(data) is None
        assert outcome(decode_pixels, data) == outcome(decode, data)
        assert [record.getMessage() for record in caplog.records] == [
            f"{kind} images are decoded by Pillow: the faster decoder differs from it"
        ]
    finally:
        fast_decoders._chosen.cache_clear()
