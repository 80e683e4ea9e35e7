"""The Python blocks of a page of the documentation, run in their order as one program."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"

BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*) -->\n+)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)

NOT_RUN = "not run: "

FILE = "file: "


@dataclass(frozen=True)
class Block:
    """A block of Python of a page.

    Attributes:
        code: The code.
        line: Line of the page on which the code begins, from 1.
        note: The comment of HTML right before the block, "" for none: "not run: REASON" or "file: NAME".
    """

    code: str
    line: int
    note: str


def python_blocks(page: Path) -> Iterator[Block]:
    """Yield the Python blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(found["code"], line, found["note"] or "")


def run_blocks(page: Path, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run the Python blocks of a page in the working directory, and return the names that they define.

    A block after `<!-- not run: REASON -->` is skipped. A block after `<!-- file: NAME -->` is written to
    this file in the working directory. A traceback shows the lines of the page.

    Args:
        page: The page.
        names: Names that the blocks find.
    """
    defined: dict[str, Any] = {"__name__": page.stem, **(names or {})}
    run = 0
    for block in python_blocks(page):
        if block.note.startswith(NOT_RUN):
            continue
        if block.note.startswith(FILE):
            Path(block.note.removeprefix(FILE)).write_text(block.code, encoding="utf-8")
            continue
        exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), defined)
        run += 1
    assert run, f"{page} has no Python block that is run"
    return defined
