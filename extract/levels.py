"""Multilevel features: statistics of every stage of an encoder, side by side, each slice with a name."""

import re
from dataclasses import dataclass
from itertools import product
from typing import Self

from cache.errors import TierError

MULTILEVEL = "multilevel"


class LevelsError(TierError):
    """A feature point without the levels that were asked for."""


@dataclass(frozen=True)
class Levels:
    """The parts that a multilevel feature is made of, in the order in which they are concatenated.

    Attributes:
        names: Names of the levels from the input to the output, such as "stage3" of a CNN or "block12" of a transformer.
        widths: Channels of each level.
        statistics: What is kept of each level: "mean" and "sd" over positions and, of transformers, first the "class" token.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    statistics: tuple[str, ...] = ("mean", "sd")

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {width}" for name, width in zip(self.names, self.widths, strict=True))
        return f"{MULTILEVEL}: {'+'.join(self.statistics)} of {parts}"

    @classmethod
    def parse(cls, feature: str) -> Self:
        """Read the text form back, as it stands in a store's signature.

        Raises:
            LevelsError: The feature point is not a multilevel one.
        """
        found = re.fullmatch(rf"{MULTILEVEL}: ([a-z+]+) of (\w+ \d+(?:, \w+ \d+)*)", feature)
        if not found:
            raise LevelsError(f"the feature point {feature!r} has no levels: extract with --feature {MULTILEVEL}")
        names, widths = zip(*(part.split() for part in found[2].split(", ")), strict=True)
        return cls(tuple(names), tuple(map(int, widths)), tuple(found[1].split("+")))

    @property
    def width(self) -> int:
        """Length of the whole feature."""
        return sum(self.widths) * len(self.statistics)

    def slices(self) -> dict[str, slice]:
        """Where each part lies in the feature, by names such as "stage3.sd"."""
        out, start = {}, 0
        for (name, width), statistic in product(zip(self.names, self.widths, strict=True), self.statistics):
            out[f"{name}.{statistic}"] = slice(start, start + width)
            start += width
        return out
