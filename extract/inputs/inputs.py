"""Distinct inputs by key: images, texts, and pairs of both. They are arrays, so that millions fit in memory.

Arrays that come from a file are memory-mapped: processes share them, and only what is used is read.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tier4k.cache.keys import KEY_BYTES, pair_key, sortable
from tier4k.extract.images.place_names import URL_START


def encoded(text: str) -> bytes:
    """Return a text, or a place of an image, as UTF-8; bytes of names that are not UTF-8 are kept."""
    return text.encode("utf-8", "surrogateescape")


def decoded(value: bytes) -> str:
    """Return the text of `encoded`."""
    return value.decode("utf-8", "surrogateescape")


def values_of(texts: Iterable[str]) -> pa.ChunkedArray:
    """Return texts or places as an Arrow array of bytes."""
    return pa.chunked_array([pa.array(map(encoded, texts), pa.large_binary())])


def absolute_places(places: pa.Array) -> pa.Array:
    """Return encoded places of images that are the same in every working directory.

    A plan may be used in another one. Steps such as `..` stay, as a folder before them may be a link. A `./`
    at the start, as of data in the working directory itself, is left out.
    """
    is_absolute = pc.match_substring_regex(places, f"^(/|{URL_START})")
    folder = pa.scalar(os.path.join(os.getcwdb(), b""), places.type)
    names = pc.replace_substring_regex(places, r"^(\./)+", "")
    below = pc.binary_join_element_wise(folder, names, pa.scalar(b"", places.type))
    return pc.if_else(is_absolute, places, below)


@dataclass(frozen=True)
class Inputs:
    """N distinct images or texts.

    Attributes:
        keys: (N, 32) uint8.
        values: N places of images, or N texts, as `encoded` returns them.
    """

    keys: np.ndarray
    values: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.keys)

    def texts(self, numbers: np.ndarray) -> tuple[str, ...]:
        """Return the places or texts with these numbers."""
        return tuple(decoded(value) for value in self.values.take(pa.array(numbers)).to_pylist())

    def select(self, chosen: np.ndarray) -> "Inputs":
        """Return the inputs that a mask (N,) chooses."""
        if chosen.all():
            return self
        return Inputs(self.keys[chosen], self.values.filter(pa.array(chosen)))

    def with_others(self, others: "Inputs") -> "Inputs":
        """Return these inputs, then those of `others` whose keys are not among them."""
        is_new = np.isin(sortable(others.keys), sortable(self.keys), invert=True)
        new = others.select(is_new)
        values = pa.chunked_array([*self.values.chunks, *new.values.chunks], pa.large_binary())
        return Inputs(np.concatenate([self.keys, new.keys]), values)


@dataclass(frozen=True)
class Pairs:
    """N distinct pairs of an image and its text prompt.

    Attributes:
        keys: (N, 32) uint8.
        images: The images.
        texts: The text prompts.
        image: (N,) number of each pair's image.
        text: (N,) number of each pair's text.
    """

    keys: np.ndarray
    images: Inputs
    texts: Inputs
    image: np.ndarray
    text: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, chosen: np.ndarray) -> "Pairs":
        """Return the pairs that a mask (N,) chooses."""
        if chosen.all():
            return self
        return Pairs(self.keys[chosen], self.images, self.texts, self.image[chosen], self.text[chosen])


def distinct_pairs(
    images: Inputs,
    texts: Inputs,
    image: np.ndarray,
    text: np.ndarray,
) -> Pairs:
    """Return the distinct pairs of the rows of a data set, in the order of their first rows.

    Args:
        images: The images.
        texts: The text prompts.
        image: (R,) number of each row's image.
        text: (R,) number of each row's text prompt.
    """
    _, first = np.unique(image * max(len(texts), 1) + text, return_index=True)
    rows = np.sort(first)
    image, text = image[rows], text[rows]
    return Pairs(_pair_keys(images.keys[image], texts.keys[text]), images, texts, image, text)


def _pair_keys(image_keys: np.ndarray, text_keys: np.ndarray) -> np.ndarray:
    keys = np.empty((len(image_keys), KEY_BYTES), np.uint8)
    for number, (image, text) in enumerate(zip(image_keys, text_keys, strict=True)):
        keys[number] = np.frombuffer(pair_key(bytes(image), bytes(text)), np.uint8)
    return keys
