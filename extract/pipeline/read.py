"""Reading of units: images, texts, and pairs of both.

Images are read by threads, ahead of the network. Threads, and no processes: reading, hashing, decoding and
resizing release Python's lock, and nothing is copied from one process to another.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tier4k.extract.encoders.text_tokenizer import TextTokenizer
from tier4k.extract.pipeline.chunks import Chunk, join_chunks
from tier4k.extract.pipeline.image_reader import ImageReader, with_pairs
from tier4k.extract.pipeline.threads import map_ahead, possible_threads
from tier4k.extract.pipeline.units import Unit


class UnitReader(Protocol):
    """Reads units. A reader can be pickled and needs no network."""

    def read(self, unit: Unit) -> Chunk:
        """Return the inputs of a unit; those whose images cannot be read are left out."""


class TextReader:
    """Sorts the texts of a unit by their number of tokens, so that short texts are not padded to long ones.

    Args:
        tokenizer: The tokenizer of the text network.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer

    def read(self, unit: Unit) -> Chunk:
        """Return the texts of a unit."""
        counts = [len(tokens) for tokens in self._tokenizer.untruncated_ids(unit.texts)]
        numbers = np.argsort(counts, kind="stable")
        return Chunk(numbers, texts=tuple(unit.texts[number] for number in numbers))


@dataclass(frozen=True)
class _Part:
    """Part of a unit: the numbers of its images, and whether it is the last one."""

    unit: Unit
    numbers: range
    is_last: bool


def image_chunks(
    reader: ImageReader,
    units: Iterable[Unit],
    workers: int,
    upload: Callable[[Chunk], Chunk],
) -> Iterator[tuple[Unit, Chunk]]:
    """Yield each unit of images or pairs, and its chunk on the device.

    Args:
        reader: Reads images.
        units: The units.
        workers: Number of reading threads; with 0, this thread reads.
        upload: Copies a part of a unit to the device.
    """
    uploaded: list[Chunk] = []

    def read(part: _Part, is_stopped: Callable[[], bool]) -> tuple[Chunk, _Part]:
        return reader.read_images(part.unit, part.numbers, is_stopped), part

    parts = _parts(units, reader.variants.images_per_part)
    for chunk, part in map_ahead(read, parts, possible_threads(workers), lambda one: one[0].bytes):
        uploaded.append(upload(chunk))
        if part.is_last:
            yield part.unit, with_pairs(part.unit, join_chunks(uploaded))
            uploaded = []


def _parts(units: Iterable[Unit], images_per_part: int) -> Iterator[_Part]:
    for unit in units:
        images = range(len(unit.images))
        for start in range(0, len(images), images_per_part):
            numbers = images[start : start + images_per_part]
            yield _Part(unit, numbers, numbers.stop >= len(images))
