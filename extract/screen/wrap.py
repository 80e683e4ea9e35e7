"""Text that is broken between words."""

import re

from rich.cells import cell_len

_UNBROKEN = re.compile(r"(?:`[^`]*`|[^\s`]|`)+")
"""A word; a command between backticks is one word."""


def words(text: str) -> list[str]:
    """Return the words of a text; a command between backticks is one word."""
    return _UNBROKEN.findall(text)


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines between words. A word that is longer than a line stays whole.

    Args:
        text: One line of text; spaces at its beginning are kept.
        width: Largest number of characters of a line.
    """
    line = text[: len(text) - len(text.lstrip())]
    lines = []
    is_empty = True
    for word in words(text):
        longer = line + word if is_empty else f"{line} {word}"
        if is_empty or cell_len(longer) <= width:
            line = longer
        else:
            lines.append(line)
            line = word
        is_empty = False
    return [*lines, line]
