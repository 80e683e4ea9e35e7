"""Fast decoders: chosen once a process, where they decode an image of the same type as Pillow does."""

import io
import logging
from collections.abc import Callable
from functools import cache
from threading import Lock

import numpy as np
from PIL import Image

from tier4k.extract.images.decode import decode
from tier4k.extract.images.header import PNG_MARK
from tier4k.extract.images.jpeg import JPEG_MARK, decode_jpeg
from tier4k.extract.images.png import decode_png

Decoder = Callable[[bytes], np.ndarray | None]
"""From the bytes of a file to the pixels (H, W, 4) uint8, or None where Pillow has to decode."""

_DECODERS: dict[str, Decoder] = {"JPEG": decode_jpeg, "PNG": decode_png}
_MARKS = {"JPEG": JPEG_MARK, "PNG": PNG_MARK}
_SIDE = 41  # of the image that is decoded by both: it fills no whole blocks

_choice_lock = Lock()
_log = logging.getLogger(__name__)


def fast_decoder(data: bytes) -> Decoder | None:
    """Return the fast decoder of the type of an image; None if Pillow decodes that type."""
    for kind, mark in _MARKS.items():
        if data.startswith(mark):
            with _choice_lock:
                return _chosen(kind)
    return None


def choose_decoders() -> None:
    """Choose the decoders now, so that threads that start to read need not wait for each other."""
    for mark in _MARKS.values():
        fast_decoder(mark)


@cache
def _chosen(kind: str) -> Decoder | None:
    """Return the decoder of a type of file if it decodes a small image as Pillow does."""
    data = _small_file(kind)
    expected = np.asarray(decode(data))
    found = _DECODERS[kind](data)
    if found is not None and np.array_equal(found[..., :3], expected):
        return _DECODERS[kind]
    _log.warning("%s images are decoded by Pillow: the faster decoder differs from it", kind)
    return None


def _small_file(kind: str) -> bytes:
    """Return an image file of this type, with smooth parts and edges."""
    down, across = np.mgrid[:_SIDE, :_SIDE]
    planes = [down * across % 256, (down * 6) ^ (across * 3), np.where(down > across, 230, across * 5)]
    out = io.BytesIO()
    Image.fromarray(np.stack(planes, axis=2).astype(np.uint8)).save(out, kind)
    return out.getvalue()
