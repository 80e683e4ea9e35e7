"""The fenced blocks of the pages of the documentation, with the comments that say how to run them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

TOP = Path(__file__).parents[2]

DOCS = TOP / "docs"

GENERATED = DOCS / "reference"  # by the build of the site

FENCE = re.compile(r"\s*(?P<marks>`{3,})(?P<language>[\w+-]*)")

COMMENT = re.compile(r"\s*<!-- (?P<name>not run|before|file): (?P<value>.*) -->\s*")

RUN = ("bash", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: The page.
        line: Line of the page on which the code begins, from 1.
        language: Such as "bash"; "" where the page names none.
        code: The code.
        not_run: The reason of `<!-- not run: REASON -->` before the block, or "".
        before: The commands of `<!-- before: COMMAND -->` before the block.
        file: The name of `<!-- file: NAME -->` before the block, or "".
    """

    page: Path
    line: int
    language: str
    code: str
    not_run: str
    before: tuple[str, ...]
    file: str

    @property
    def place(self) -> str:
        """Page and line, as editors open them."""
        return f"{self.page.relative_to(TOP)}:{self.line}"


def pages() -> list[Path]:
    """README.md and all pages in docs/, apart from generated ones."""
    found = [TOP / "README.md"]
    for page in sorted(DOCS.rglob("*.md")):
        if not page.is_relative_to(GENERATED):
            found.append(page)
    return found


def read_blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page in their order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    comments: list[tuple[str, str]] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if fence := FENCE.match(line):
            end = _end(lines, number, fence["marks"])
            code = dedent("\n".join(lines[number:end])) + "\n"
            yield _block(page, number + 1, fence["language"], code, comments)
            number = end + 1
        if comment := COMMENT.fullmatch(line):
            comments.append((comment["name"], comment["value"]))
        elif line.strip():
            comments = []


def _end(lines: list[str], start: int, marks: str) -> int:
    """The number of the line that closes a block."""
    for number in range(start, len(lines)):
        if lines[number].strip() == marks:
            return number
    return len(lines)


def _block(
    page: Path,
    line: int,
    language: str,
    code: str,
    comments: list[tuple[str, str]],
) -> Block:
    named = dict(comments)
    before = tuple(value for name, value in comments if name == "before")
    return Block(page, line, language, code, named.get("not run", ""), before, named.get("file", ""))
