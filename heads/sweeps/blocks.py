"""A grid as a user gives it: one block of options, or several, whose runs are united."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tier4k.cache.errors import TierError
from tier4k.cache.text import read_text
from tier4k.extract.datasets.streams import ALL
from tier4k.extract.encoders.choices import PresetName
from tier4k.heads.protocol.presets import PRESETS

BLOCK = "grid"  # the key of the blocks in a file

EXAMPLE = 'method = ["nr", "fr"]\nbenchmark = "I2I"\nhead = ["mlp", "ridge"]\nrepeats = 10'

BLOCKS_EXAMPLE = '[[grid]]\nhead = "ridge"\n\n[[grid]]\nhead = "mlp"\nhidden = [128, 256]'

Block = Mapping[str, Any]
"""A value or a list of values for each option of `fit-head`."""

Grid = Block | Sequence[Block] | str | Path
"""A block, several blocks, or a TOML file with one or several."""


class SweepError(TierError):
    """Raised when a grid cannot be swept or searched."""


def as_blocks(grid: Grid) -> list[dict[str, Any]]:
    """Return the blocks of a grid that a user gives; tuples become lists of values.

    Raises:
        SweepError: The file cannot be read, or the grid has none of these forms.
    """
    if isinstance(grid, str | Path):
        return _read_blocks(Path(grid))
    if isinstance(grid, Mapping):
        return _blocks_of(dict(grid), "the grid")
    blocks: list[Any] = list(grid) if isinstance(grid, Sequence) else []
    if not blocks or not all(isinstance(block, Mapping) for block in blocks):
        raise SweepError(f"the grid is {grid!r}: use a dict, or a list of one dict or more")
    return [_with_lists(block) for block in blocks]


def with_streams(blocks: Sequence[Block], streams: str) -> list[dict[str, Any]]:
    """Return the blocks with the streams of the command line, where a block names none."""
    if streams == ALL:
        return [dict(block) for block in blocks]
    return [{"streams": streams, **block} for block in blocks]


def with_preset(
    blocks: Sequence[Block],
    preset: PresetName,
    head: str | None = None,
) -> list[dict[str, Any]]:
    """Return the blocks with the head of a preset and its options, where a block names no others.

    The options of a preset are those of its head. A block with this head and others becomes two.

    Args:
        blocks: The blocks of a grid.
        preset: Name of the preset.
        head: The head of the blocks that name none; by default that of the preset.
    """
    chosen = PRESETS[preset]
    result = []
    for block in blocks:
        given = block.get("head", head or chosen.head)
        heads = given if isinstance(given, list) else [given]
        others = [name for name in heads if name != chosen.head]
        if chosen.head in heads:
            result.append({**chosen.options, **block, "head": chosen.head})
        if others:
            result.append({**block, "head": others})
    return result


def _read_blocks(path: Path) -> list[dict[str, Any]]:
    try:
        content = tomllib.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise SweepError(
            f"{path} cannot be read as a grid ({error}): pass a TOML file such as\n{EXAMPLE}"
        ) from error
    blocks = _blocks_of(content, str(path))
    if not any(blocks):
        raise SweepError(f"{path} has no options: write one or more into it, such as\n{EXAMPLE}")
    return blocks


def _blocks_of(content: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Return the blocks of a file or of a mapping; options beside the blocks belong to each of them."""
    if BLOCK not in content:
        return [_with_lists(content)]
    blocks = content.pop(BLOCK)
    if not isinstance(blocks, list) or not blocks or not all(isinstance(block, Mapping) for block in blocks):
        raise SweepError(
            f"{where}: {BLOCK!r} is no list of blocks: begin each block with [[{BLOCK}]], such as\n"
            f"{BLOCKS_EXAMPLE}"
        )
    return [_with_lists({**content, **block}) for block in blocks]


def _with_lists(block: Block) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in block.items()}
