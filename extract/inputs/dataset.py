"""The inputs of a data set: its distinct images and prompts, and which of them each row has."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from tier4k.cache.keys import KEY_BYTES, key_array
from tier4k.extract.datasets.choices import STREAMS, Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.inputs.inputs import Inputs, Pairs, absolute_places, distinct_pairs, values_of

NONE = -1  # number of the image prompt of a row without one

NO_INPUTS = Inputs(np.empty((0, KEY_BYTES), np.uint8), pa.chunked_array([], pa.large_binary()))


@dataclass(frozen=True)
class RowNumbers:
    """Which inputs each of R rows has.

    Attributes:
        image: (R,) number of each row's image.
        prompt: (R,) number of each row's text prompt; "" is one of them.
        image_prompt: (R,) number of each row's image prompt among the images, or `NONE`.
    """

    image: np.ndarray
    prompt: np.ndarray
    image_prompt: np.ndarray

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class DatasetInputs:
    """The distinct inputs of a data set's usable rows.

    Attributes:
        name: Name of the data set, for messages and records.
        data: Folder of the data set, or its URL.
        images: The distinct images: those of the rows in the order of the rows, then those that are only
            image prompts.
        prompts: The distinct text prompts in the order of the rows.
        rows: The inputs of each row.
        has_prompts: Whether the rows have text prompts.
    """

    name: str
    data: str
    images: Inputs
    prompts: Inputs
    rows: RowNumbers
    has_prompts: bool = True

    @classmethod
    def of(cls, manifest: Manifest) -> "DatasetInputs":
        """Return the inputs of a manifest."""
        table = manifest.table
        image_prompts = table["image_prompt_key"][table["image_prompt_key"] != ""]
        codes, keys = pd.factorize(pd.concat([table["image_key"], image_prompts]))
        image_prompt = np.full(len(table), NONE, np.int64)
        image_prompt[image_prompts.index] = codes[len(table) :]
        texts, text_keys = pd.factorize(table["prompt_key"])
        return cls(
            name=manifest.name,
            data=str(manifest.data.resolve()),
            images=Inputs(_keys(keys), _absolute(values_of(manifest.images()))),
            prompts=Inputs(_keys(text_keys), values_of(manifest.prompts())),
            rows=RowNumbers(codes[: len(table)], texts, image_prompt),
            has_prompts=manifest.has_prompts,
        )

    def images_of(self, streams: Collection[Stream]) -> Inputs:
        """Return the images of some streams: "image", "image-prompt", or both."""
        if set(STREAMS) - {"text"} <= set(streams):
            return self.images
        chosen = np.zeros(len(self.images), bool)
        if "image" in streams:
            chosen[self.rows.image] = True
        if "image-prompt" in streams:
            chosen[self.rows.image_prompt[self.rows.image_prompt != NONE]] = True
        return self.images.select(chosen)

    @cached_property
    def pairs(self) -> Pairs:
        """The distinct pairs of an image and its text prompt, in the order of the rows."""
        return distinct_pairs(self.images, self.prompts, self.rows.image, self.rows.prompt)


def _absolute(places: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([absolute_places(chunk) for chunk in places.chunks], places.type)


def _keys(hexadecimal: pd.Index) -> np.ndarray:
    return key_array(map(bytes.fromhex, hexadecimal))
