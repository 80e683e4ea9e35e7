"""The streams of a fused vector: which of its columns come from which input."""

from dataclasses import astuple, dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Streams:
    """Number of columns of each stream of a fused vector, in the order of the columns.

    Attributes:
        text: Features of the text prompt.
        image: Features of the image, or the mean of image and image prompt.
        image_prompt: Features of the image prompt.
        zero_shot: Scores of zero-shot scorers.
    """

    text: int = 0
    image: int = 0
    image_prompt: int = 0
    zero_shot: int = 0

    @property
    def width(self) -> int:
        """Number d of columns of the fused vector."""
        return sum(astuple(self))

    @property
    def columns(self) -> list[slice]:
        """The columns of each stream that has columns."""
        ends = list(accumulate(astuple(self)))
        starts = [0, *ends[:-1]]
        return [slice(start, end) for start, end in zip(starts, ends, strict=True) if end > start]

    @property
    def image_columns(self) -> slice:
        """The columns of image and image prompt."""
        return slice(self.text, self.text + self.image + self.image_prompt)
