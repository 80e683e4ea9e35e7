"""Multilevel features: statistics of every stage of an encoder, side by side, each slice with a name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

from tier4k.cache.errors import TierError

MULTILEVEL = "multilevel"


class LevelsError(TierError):
    """A feature point without the levels that were asked for."""


def parse_level_names(text: str) -> tuple[str, ...]:
    """Levels as a user lists them, "3,4" or "stage4,head"; none for "all"."""
    return (
        ()
        if text == "all"
        else tuple(cli_name.strip() for cli_name in text.split(",") if cli_name.strip()) or (text,)
    )


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
            raise LevelsError(
                f"the feature point {feature!r} has no levels: extract with --feature {MULTILEVEL}"
            )
        names, widths = zip(*(part.split() for part in found[2].split(", ")), strict=True)
        return cls(tuple(names), tuple(map(int, widths)), tuple(found[1].split("+")))

    @property
    def width(self) -> int:
        """Length of the whole feature."""
        return sum(self.widths) * len(self.statistics)

    def named(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Names of levels that are given by name ("stage3", "head") or number ("3"), each once, from the input to the output.

        Raises:
            LevelsError: There is no such level, or none is given.
        """
        known = {name: name for name in self.names} | {
            name.removeprefix("stage").removeprefix("block"): name for name in self.names
        }
        unknown = [one for one in wanted if one not in known]
        if unknown or not wanted:
            told = ", ".join(unknown) or "(none given)"
            raise LevelsError(
                f"--stages: there is no stage {told}: choose among {', '.join(self.names)}, such as 3,4"
            )
        chosen = {known[one] for one in wanted}
        return tuple(name for name in self.names if name in chosen)

    def columns(self, chosen: Sequence[str]) -> list[int]:
        """Columns of the feature that are statistics of some levels, by their names."""
        slices = self.slices().items()
        return [
            column
            for name, part in slices
            if name.rpartition(".")[0] in chosen
            for column in range(self.width)[part]
        ]

    def slices(self) -> dict[str, slice]:
        """Where each part lies in the feature, by names such as "stage3.sd"."""
        out, start = {}, 0
        for (name, width), statistic in product(zip(self.names, self.widths, strict=True), self.statistics):
            out[f"{name}.{statistic}"] = slice(start, start + width)
            start += width
        return out
