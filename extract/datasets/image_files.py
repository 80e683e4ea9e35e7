"""Content keys and defects of images. Each image is hashed, and decoded unless its content is known."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from joblib import cpu_count

from tier4k.extract.datasets.hashes.hasher import HashedImages, ImageHasher
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.extract.images.content import content_key
from tier4k.extract.images.decode import inspect
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.places import read_bytes, reading_order

# Images that are hashed before they are decoded, so few that the system still has their files in memory then.
AT_ONCE = 1024


@dataclass(frozen=True)
class ExaminedImage:
    """The content of an image.

    Attributes:
        key: Content key, hexadecimal; "" if the image cannot be read.
        defect: The reason why the image cannot be used; "" for a sound image.
        is_turned: Whether the image is turned upright when it is decoded.
        is_transparent: Whether the image is composited onto white when it is decoded.
    """

    key: str
    defect: str
    is_turned: bool = False
    is_transparent: bool = False


class KnownKeys(Protocol):
    """Keys of sound images."""

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Return whether each key (M, 32) is among these, as (M,) bool."""


def examine_images(
    places: Sequence[str],
    hasher: ImageHasher,
    known: KnownKeys | None = None,
    progress: Progress | None = None,
    decode: bool = True,
) -> dict[str, ExaminedImage]:
    """Hash images, and decode those whose content is not known yet.

    Args:
        places: Distinct places of images.
        hasher: Hashes the images; what it has hashed is published.
        known: Keys of sound images, which are not decoded; None knows none.
        progress: Called with (images done, images in all).
        decode: Whether images that are not known are decoded; if not, only unreadable ones have a defect.

    Returns:
        {place: its key and defect}, in the order of the places.

    Raises:
        StoreError: The hasher's cache cannot be written.
    """
    report = progress or no_progress
    in_order = reading_order(places)
    examined = {}
    # Threads, although processes would be faster: workers of a killed process would wait for ever.
    with ThreadPoolExecutor(cpu_count()) as pool:
        decoder = _Decoder(pool, known) if decode else None
        for start in range(0, len(in_order), AT_ONCE):
            block = in_order[start : start + AT_ONCE]
            for place, image in zip(block, _examine_block(block, hasher, decoder), strict=True):
                examined[place] = image
                report(len(examined), len(places))
    hasher.publish()
    return {place: examined[place] for place in places}


def _examine_block(
    places: Sequence[str],
    hasher: ImageHasher,
    decoder: "_Decoder | None",
) -> Iterator[ExaminedImage]:
    hashed = hasher.hash(places)
    defects = decoder.start(places, hashed) if decoder else {}
    for index in range(len(places)):
        if index in hashed.problems:
            yield ExaminedImage("", hashed.problems[index])
            continue
        key = hashed.keys[index].tobytes()
        defect = defects[key].result() if key in defects else ""
        yield ExaminedImage(
            key.hex(), defect, bool(hashed.is_turned[index]), bool(hashed.is_transparent[index])
        )


class _Decoder:
    """Decodes images in threads; equal contents are decoded once."""

    def __init__(self, pool: ThreadPoolExecutor, known: KnownKeys | None) -> None:
        self._pool = pool
        self._known = known
        self._defects: dict[bytes, Future[str]] = {}

    def start(self, places: Sequence[str], hashed: HashedImages) -> "dict[bytes, Future[str]]":
        """Start to decode the images that are not known; return {key: its defect} of all up to now."""
        is_known = self._known.holds(hashed.keys) if self._known is not None else np.zeros(len(places), bool)
        for index in np.flatnonzero(~is_known).tolist():
            key = hashed.keys[index].tobytes()
            if index not in hashed.problems and key not in self._defects:
                self._defects[key] = self._pool.submit(_defect, places[index], key)
        return self._defects


def _defect(place: str, key: bytes) -> str:
    """Return why an image with a content key cannot be used, "" for a sound one."""
    try:
        data = read_bytes(place)
        if content_key(data) != key:
            return "the file changed while it was checked"
        inspect(data)
    except ImageError as error:
        return str(error)
    return ""
