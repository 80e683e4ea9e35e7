"""The bash blocks of the documentation: `tier` in this process, and everything else in bash.

A start of `tier` takes seconds, most of them for the import of torch. A line that begins with `tier` is
therefore run by the app in this process. Bash expands its arguments first, so that quotes, braces, globs and
variables mean what they mean to a reader. `tier … > FILE` and `tier … | COMMAND` work: bash gets what the app
printed. A block with any other command (`cd`, `for`, `ls`, …) is run by bash as a whole, with a `tier` that
starts Python.
Lines that set up a machine (`make`, `pip install`, …) are skipped.
"""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

SET_UP = ("make", "pip install", "python -m venv", "source .venv/bin/activate", "git clone")

OPERATORS = "|<>;&"

SECONDS = 300  # for a block that bash runs as a whole


@dataclass(frozen=True)
class Command:
    """One command of a bash block.

    Attributes:
        text: The command, without its comment.
        rest: What follows it from the first operator on, such as "> table.csv", "| jq ." or "".
    """

    text: str
    rest: str

    @property
    def is_tier(self) -> bool:
        """Whether the command starts the app, and bash can do what follows it."""
        return self.text.split()[0] == "tier" and (not self.rest or self.rest[0] in "|>")

    @property
    def is_set_up(self) -> bool:
        """Whether the command installs something."""
        return self.text.startswith(SET_UP)


class BashError(AssertionError):
    """A command failed."""


def commands(code: str) -> Iterator[Command]:
    """Yield the commands of a block: of every line, and between `&&`."""
    for line in code.replace("\\\n", " ").splitlines():
        text = _without_comment(line)
        while text:
            end = _first(text, OPERATORS)
            if text[end : end + 2] == "&&":
                yield Command(text[:end].strip(), "")
                text = text[end + 2 :].strip()
            else:
                yield Command(text[:end].strip() or text, text[end:])
                text = ""


def run_bash(code: str) -> str:
    """Run a bash block in the working directory, and return what it printed.

    Raises:
        BashError: A command failed; the message has the command and its output.
    """
    found = [command for command in commands(code) if not command.is_set_up]
    if not all(command.is_tier for command in found):
        return _run_whole(code)
    return "".join(_run_tier(command) for command in found)


def check_options(command: Command) -> None:
    """Parse a `tier` command without running it.

    Raises:
        BashError: The app has no such command or option.
    """
    arguments = [argument for argument in _expanded(command.text)[1:] if argument != "…"]
    group: Any = typer.main.get_command(_app())
    try:
        with group.make_context("tier", arguments[:1] or ["--help"], resilient_parsing=True) as context:
            if arguments and arguments[0].startswith("-"):  # an option of the app itself
                context.resilient_parsing = False
                group.make_parser(context).parse_args(args=arguments)
                return
            name, found, rest = group.resolve_command(context, arguments)
            while hasattr(found, "resolve_command"):
                with found.make_context(name, rest[:1], resilient_parsing=True) as context:
                    name, found, rest = found.resolve_command(context, rest)
            context.resilient_parsing = False  # with it, the parser ignores unknown options
            found.make_parser(context).parse_args(args=list(rest))
    except typer.exceptions.TyperException as error:
        raise BashError(f"{command.text}: {error}") from None


def _run_tier(command: Command) -> str:
    arguments = _expanded(command.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        result = CliRunner().invoke(_app(), arguments[1:])
    if result.exit_code != 0:
        raise BashError(
            f"{command.text} (exit code {result.exit_code})\n{result.output}"
        ) from result.exception
    if not command.rest:
        return result.stdout
    return _bash(f"cat {command.rest}", result.stdout)


def _run_whole(code: str) -> str:
    lines = []
    for line in code.splitlines():
        if not line.strip().startswith(SET_UP):
            lines.append(line)
    return _bash("\n".join(lines))


def _bash(script: str, stdin: str = "") -> str:
    programs = Path(
        sys.executable
    ).parent  # python and the scripts of installed packages, as in an active .venv
    path = f"{_folder_of_tier()}:{programs}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | {"PATH": path},
    )
    if done.returncode != 0:
        raise BashError(f"{script} (exit code {done.returncode})\n{done.stdout}{done.stderr}")
    return done.stdout


def _folder_of_tier() -> Path:
    """A folder beside the working directory with a program `tier` that is the code under test."""
    folder = Path.cwd().parent / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / "tier"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tier4k.cli "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def _expanded(text: str) -> list[str]:
    """The words of a command as bash expands them."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {text}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[:-1]


def _without_comment(line: str) -> str:
    start = 0
    while True:
        found = _first(line[start:], "#") + start
        if found >= len(line):
            return line.strip()
        if found == 0 or line[found - 1].isspace():
            return line[:found].strip()
        start = found + 1


def _first(text: str, characters: str) -> int:
    """The place of the first of these characters outside quotes, or the length of the text."""
    quote = ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in characters:
            return place
    return len(text)


def _app() -> typer.Typer:
    from tier4k import cli

    return cli.app
