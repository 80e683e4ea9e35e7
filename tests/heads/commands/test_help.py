"""The help shows every option in one line, in panels, and at once; shells complete known values."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tier4k import cli
from tier4k.heads.commands import panels
from tier4k.tests.builders.commands import PACKAGE_FOLDER, succeed

HEAVY = ("torch", "transformers", "timm", "pandas", "sklearn", "scipy", "numpy", "pyarrow", "h5py")

WIDE = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}


def commands(group: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


def framed_lines(*arguments: str) -> list[str]:
    """Return the lines inside of the panels of a help at 100 columns."""
    result = CliRunner().invoke(cli.app, [*arguments, "--help"], env=WIDE)
    assert result.exit_code == 0, result.output
    return [line for line in result.output.splitlines() if line.startswith("│")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_option_and_argument_is_explained_in_one_line(words: tuple[str, ...]) -> None:
    parameters = [parameter for parameter in COMMANDS[words].params if not parameter.hidden]
    lines = framed_lines(*words)
    assert len(lines) == len(parameters) + 1, "\n".join(lines)  # and --help
    for parameter in parameters:
        assert parameter.help, parameter.name


def test_each_command_is_explained_in_one_line() -> None:
    lines = [line.strip("│ ") for line in framed_lines()]
    for words in COMMANDS:
        (line,) = [line for line in lines if line.startswith(f"{words[0]} ")]
        assert line.endswith("."), line


def test_the_options_of_fit_head_are_in_the_panels_of_their_subjects() -> None:
    names = [parameter.rich_help_panel for parameter in COMMANDS["fit-head",].params]
    assert [name for name in dict.fromkeys(names) if name] == [
        panels.DATA,
        panels.FEATURES,
        panels.HEAD,
        panels.PROTOCOL,
        panels.END_TO_END,
        panels.OUTPUT,
    ]


def test_the_help_loads_no_library_that_computes() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from tier4k import cli\n"
        "for words in ([], ['fit-head'], ['sweep'], ['extract']):\n"
        "    assert CliRunner().invoke(cli.app, [*words, '--help']).exit_code == 0\n"
        "print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *HEAVY],
        cwd=PACKAGE_FOLDER,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"


def test_the_version_is_that_of_the_package_and_of_its_libraries() -> None:
    lines = succeed("--version").splitlines()
    names = [line.split()[0] for line in lines]
    assert names[:2] == ["tier4k", "Python"]
    assert {"torch", "transformers", "timm"} <= set(names)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("fit-head --preset ", {"best", "clip"}),
        ("fit-head --head k", {"kernel-ridge"}),
        ("sweep --split p", {"prompt", "published"}),
        ("extract --image-encoder res", {"resnet18", "resnet50"}),
        ("extract --text-encoder mini", {"minilm"}),
        ("fit-head --method ", {"nr", "fr", "pr"}),
        ("st", {"store"}),
    ],
)
def test_a_shell_completes_known_values(typed: str, expected: set[str]) -> None:
    words = f"tier {typed}"
    environment = {
        "_TIER_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    result = CliRunner().invoke(cli.app, [], env=environment, prog_name="tier")
    assert set(result.output.split()) == expected
