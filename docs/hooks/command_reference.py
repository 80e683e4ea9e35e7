"""The page of all commands: typer writes it from the commands themselves when the site is built."""

import subprocess
import sys

from mkdocs.structure.pages import Page

PAGE = "reference/commands.md"
MARK = "<!-- all commands -->"
GENERATE = [sys.executable, "-m", "typer", "tier4k.cli", "utils", "docs", "--name", "tier"]


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the commands in the place of the mark."""
    if page.file.src_uri != PAGE:
        return markdown
    before, mark, after = markdown.partition(MARK)
    if not mark:
        raise ValueError(f"docs/{PAGE} has no line {MARK}, which the commands replace")
    return before + all_commands() + after


def all_commands() -> str:
    """Return the Markdown of all commands, without the title of typer."""
    written = subprocess.run(GENERATE, capture_output=True, text=True, check=True).stdout
    _, _, commands = written.partition("\n")
    return commands
