"""Every bash and python block of README.md and of docs/ runs; tests/docs/README.md says how and where."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tier4k.tests.builders.doc_blocks import TOP, Block, pages, read_blocks
from tier4k.tests.builders.doc_project import fresh_project
from tier4k.tests.builders.doc_shell import check_options, commands, run_bash

# A warning does not stop a reader's program.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# Why a block with a `tier` command may be left out; a reason has one of these words.
REASONS = ("GPU", "cluster", "download", "server", "long", "interactive", "two machines")

MOST_NOT_RUN = 0.2  # of all blocks with a command of `tier` or with Python


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(TOP)))
def test_the_blocks_of_a_page_run(
    page: Path,
    prepared: tuple[Path, Path],
) -> None:
    blocks = list(read_blocks(page))
    modules = set(sys.modules)
    with fresh_project(*prepared):
        failures = list(_failures(blocks))
    for name in set(sys.modules) - modules:
        if _is_of_the_page(sys.modules[name], prepared[1]):
            del sys.modules[name]
    if failures:
        pytest.fail("\n\n".join(failures), pytrace=False)


def test_few_blocks_are_not_run() -> None:
    blocks = [block for page in pages() for block in read_blocks(page) if _is_program(block)]
    left_out = [block for block in blocks if block.not_run]
    report = [f"{block.place}: {block.not_run}" for block in left_out]
    assert len(left_out) <= MOST_NOT_RUN * len(blocks), "\n".join(report)


def test_a_command_is_left_out_for_one_of_the_known_reasons() -> None:
    wrong = []
    for page in pages():
        for block in read_blocks(page):
            if block.not_run and _is_program(block) and not any(word in block.not_run for word in REASONS):
                wrong.append(f"{block.place}: {block.not_run}")
    assert not wrong, f"reasons must have one of {REASONS}:\n" + "\n".join(wrong)


def test_commands_that_are_not_run_have_options_of_the_app() -> None:
    failures = []
    for page in pages():
        for block in read_blocks(page):
            if block.not_run and block.language == "bash":
                failures += _unknown_options(block)
    assert not failures, "\n".join(failures)


def _unknown_options(block: Block) -> Iterator[str]:
    for command in commands(block.code):
        if not command.is_tier:
            continue
        try:
            check_options(command)
        except AssertionError as error:
            yield f"{block.place}: {error}"


def _is_program(block: Block) -> bool:
    if block.language == "bash":
        return any(command.text.startswith("tier") for command in commands(block.code))
    return block.language == "python"


def _failures(blocks: list[Block]) -> Iterator[str]:
    """Run the blocks in their order; a failed one does not keep the next from being run."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        try:
            _run(block, names)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            yield f"{block.place}\n{block.code}\n{_cause(error)}"


def _run(block: Block, names: dict[str, Any]) -> None:
    for command in block.before:
        run_bash(command)
    if block.not_run:
        return
    if block.file:
        Path(block.file).parent.mkdir(parents=True, exist_ok=True)
        Path(block.file).write_text(block.code, encoding="utf-8")
    elif block.language == "bash":
        run_bash(block.code)
    elif block.language == "python":
        # With empty lines before it, a traceback shows the lines of the page.
        code = compile("\n" * (block.line - 1) + block.code, str(block.page), "exec")
        with redirect_stdout(StringIO()):
            exec(code, names)


def _cause(error: BaseException) -> str:
    """The message of a failed command, or the traceback of a failed program."""
    text = str(error) if isinstance(error, AssertionError) and str(error) else ""
    inner = error.__cause__ if text else error
    if inner is None or isinstance(inner, SystemExit):
        return text
    return text + "".join(traceback.format_exception(inner)[-12:])


def _is_of_the_page(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)
