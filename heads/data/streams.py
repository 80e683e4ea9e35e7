"""The streams of a fused vector: which of its columns come from which input."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

PartStream = Literal["text", "image", "image-prompt", "zero-shot", "embedding", "templates", "interaction"]


@dataclass(frozen=True)
class Part:
    """Columns of a fused vector that one encoder computes from one input.

    Attributes:
        stream: The input; "zero-shot" for the scores of zero-shot scorers. Interactions are computed from
            parts of "embedding" and "templates", and are parts of "interaction"
            (see `tier4k.heads.data.interactions`).
        name: Name of the encoder's array; "" for scores and templates. Of an embedding what is embedded
            ("image", "text" or "image-prompt"), of an interaction its name.
        width: Number of columns.
    """

    stream: PartStream
    name: str
    width: int


@dataclass(frozen=True)
class Streams:
    """The parts of a fused vector, in the order of the columns."""

    parts: tuple[Part, ...]

    @classmethod
    def of(
        cls,
        text: int = 0,
        image: int = 0,
        image_prompt: int = 0,
        zero_shot: int = 0,
    ) -> "Streams":
        """Return the streams of fused vectors with at most one part of each stream.

        Args:
            text, image, image_prompt, zero_shot: Number of columns; 0 for no part.
        """
        widths: dict[PartStream, int] = {
            "text": text,
            "image": image,
            "image-prompt": image_prompt,
            "zero-shot": zero_shot,
        }
        return cls(tuple(Part(stream, "", width) for stream, width in widths.items() if width))

    @property
    def width(self) -> int:
        """Number d of columns of the fused vector."""
        return sum(part.width for part in self.parts)

    @property
    def columns(self) -> list[slice]:
        """The columns of each part."""
        return [columns for _, columns in self.slices()]

    def slices(self) -> Iterator[tuple[Part, slice]]:
        """Yield each part with its columns."""
        start = 0
        for part in self.parts:
            yield part, slice(start, start + part.width)
            start += part.width

    def mask(self, *streams: PartStream) -> np.ndarray:
        """Return (d,) bool, whether each column belongs to one of the streams."""
        mask = np.zeros(self.width, bool)
        for part, columns in self.slices():
            mask[columns] = part.stream in streams
        return mask
