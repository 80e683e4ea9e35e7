"""Multilevel features: concatenated statistics of several stages of an encoder, with named slices."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tier4k.cache.errors import TierError

MULTILEVEL = "multilevel"
TOKEN_STATISTICS = ("class", "mean", "sd")
WITHOUT_FOLDING = ", without folding"


class LevelsError(TierError):
    """A feature does not have the requested levels."""


def parse_level_names(text: str) -> tuple[str, ...]:
    """Return the levels of a list such as "3,4" or "stage4,head"; "all" gives none."""
    if text == "all":
        return ()
    names = [name.strip() for name in text.split(",")]
    return tuple(name for name in names if name) or (text,)


@dataclass(frozen=True)
class Levels:
    """The parts of a multilevel feature, in the order in which they are concatenated.

    Attributes:
        names: Names of the levels from input to output, such as "stage3" of a CNN or "block12" of a
            transformer.
        widths: Channels of each level.
        statistics: Statistics of each level over positions: "mean" and "sd", for transformers after the
            "class" token.
        folded: Whether batch normalisations may be folded into the convolutions before them. Folding changes
            the maps of networks that return the output of such a convolution.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    statistics: tuple[str, ...] = ("mean", "sd")
    folded: bool = True

    def __str__(self) -> str:
        """Return the text in a signature, by which stores are found."""
        pairs = zip(self.names, self.widths, strict=True)
        parts = ", ".join(f"{name} {width}" for name, width in pairs)
        folding = "" if self.folded else WITHOUT_FOLDING
        return f"{MULTILEVEL}: {'+'.join(self.statistics)} of {parts}{folding}"

    @classmethod
    def parse(cls, feature: str) -> Self:
        """Parse the text of a signature.

        Raises:
            LevelsError: The feature is not multilevel.
        """
        match = re.fullmatch(
            rf"{MULTILEVEL}: ([a-z+]+) of (\w+ \d+(?:, \w+ \d+)*)({WITHOUT_FOLDING})?",
            feature,
        )
        if match is None:
            raise LevelsError(f"the feature {feature!r} has no levels: extract with --feature {MULTILEVEL}")
        names = []
        widths = []
        for part in match[2].split(", "):
            name, width = part.split()
            names.append(name)
            widths.append(int(width))
        return cls(tuple(names), tuple(widths), tuple(match[1].split("+")), match[3] is None)

    @property
    def width(self) -> int:
        """Length of the whole feature."""
        return sum(self.widths) * len(self.statistics)

    def named(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Return the names of levels, each once, from input to output.

        Args:
            wanted: Names ("stage3", "head") or numbers ("3").

        Raises:
            LevelsError: A level does not exist, or `wanted` is empty.
        """
        level_of_name = {}
        for name in self.names:
            level_of_name[name] = name
            number = name.removeprefix("stage").removeprefix("block")
            level_of_name[number] = name
        unknown = [name for name in wanted if name not in level_of_name]
        if unknown or not wanted:
            listed = ", ".join(unknown) or "(none given)"
            raise LevelsError(
                f"--stages: there is no stage {listed}: pass some of {', '.join(self.names)}, such as 3,4"
            )
        wanted_levels = {level_of_name[name] for name in wanted}
        return tuple(name for name in self.names if name in wanted_levels)

    def columns(self, chosen: Sequence[str]) -> list[int]:
        """Return the columns of the feature that are statistics of the levels named in `chosen`."""
        columns: list[int] = []
        for name, part in self.slices().items():
            level = name.rpartition(".")[0]
            if level in chosen:
                columns.extend(range(self.width)[part])
        return columns

    def slices(self) -> dict[str, slice]:
        """Return the slice of each part of the feature, by names such as "stage3.sd"."""
        slices = {}
        start = 0
        for name, width in zip(self.names, self.widths, strict=True):
            for statistic in self.statistics:
                slices[f"{name}.{statistic}"] = slice(start, start + width)
                start += width
        return slices


def block_levels(widths: Sequence[int], statistics: tuple[str, ...]) -> Levels:
    """Return the blocks at the quarters of a transformer's depth, each once.

    Args:
        widths: Channels of every block.
        statistics: Statistics of each level.
    """
    quarters = [len(widths) * quarter // 4 for quarter in (1, 2, 3, 4)]
    blocks = sorted({max(block, 1) for block in quarters})
    names = tuple(f"block{block}" for block in blocks)
    return Levels(names, tuple(widths[block - 1] for block in blocks), statistics)
