"""A command never fails because of what it prints to, and finds every name in every locale."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tier4k.tests.builders.commands import PACKAGE_FOLDER
from tier4k.tests.builders.data import table_rows, write_table

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

CLOSED = [">&-", "2>&-", "<&-", "<&- >&- 2>&-"]

NAME = "Zürich ".encode() + b"caf\xe9"

SHOWS = """
import sys
from tier4k.heads.commands.standard_streams import lasting_output, open_closed_streams
from tier4k.heads.commands.utf8_mode import restart_in_utf8_mode
open_closed_streams()
restart_in_utf8_mode()
with lasting_output():
    print(sys.argv[1], chr(0x2026))
"""

# It opens a file as the next number, and prints to what would be the standard streams.
PRINTS = """
import os, sys
from tier4k.heads.commands.standard_streams import lasting_output, open_closed_streams
open_closed_streams()
with lasting_output(), open(sys.argv[1], "wb") as file:
    assert file.fileno() > 2
    print("printed", flush=True)
    print("printed", file=sys.stderr, flush=True)
    for descriptor in (1, 2):
        os.write(descriptor, b"written by a library")
    assert sys.stdin.read() == ""
    os._exit(7) if file.tell() else None
"""


def shell(
    redirection: str,
    *command: str | bytes,
    **environment: str,
) -> "subprocess.CompletedProcess[bytes]":
    """Run Python with arguments as a process of its own, its standard streams redirected by a shell."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}', "bash", sys.executable, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=variables | {"PYTHONPATH": str(PACKAGE_FOLDER)} | environment,
        check=False,
    )


def tier(
    redirection: str,
    *arguments: str | bytes,
    **environment: str,
) -> "subprocess.CompletedProcess[bytes]":
    return shell(redirection, "-m", "tier4k.cli", *arguments, **environment)


@pytest.mark.parametrize("redirection", CLOSED)
def test_nothing_is_printed_into_a_file_if_streams_are_closed(tmp_path: Path, redirection: str) -> None:
    path = tmp_path / "data"
    done = shell(redirection, "-c", PRINTS, str(path))
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == b""


@pytest.mark.parametrize("redirection", [*CLOSED, "| true", ">/dev/full 2>/dev/full"])
def test_an_error_has_its_exit_code_wherever_it_is_printed_to(redirection: str) -> None:
    done = tier(redirection, "nowhere")
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr
    assert (b"nowhere" in done.stderr) == ("2>" not in redirection)


@pytest.mark.parametrize("redirection", [">&-", "| true", "| head -1"])
def test_a_reader_that_goes_away_is_no_error(redirection: str) -> None:
    done = tier(redirection, "--help")
    assert done.returncode == 0
    assert done.stderr == b""


def test_output_that_a_full_disk_loses_is_an_error_without_a_traceback() -> None:
    done = tier(">/dev/full", "--help")
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard output cannot be written (No space left on device)")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (ASCII, rb"Z\xfcrich caf\xe9 ..."),
        (ASCII | {"PYTHONIOENCODING": "utf-8"}, "Zürich caf\\xe9 …".encode()),
        ({"LC_ALL": "C.UTF-8"}, "Zürich caf\\xe9 …".encode()),
        ({"LC_ALL": "C"}, "Zürich caf\\xe9 …".encode()),  # Python takes this locale for UTF-8 by itself
    ],
)
def test_a_name_is_shown_as_the_locale_can_show_it(environment: dict[str, str], expected: bytes) -> None:
    done = shell("", "-c", SHOWS, NAME, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected + b"\n"


@pytest.mark.slow
def test_a_data_set_is_checked_without_standard_streams(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.csv")
    (tmp_path / "MJ_0.png").unlink()
    problems = tmp_path / "problems.csv"
    done = tier("<&- >&- 2>&-", "data", "check", str(path), "--problems", str(problems))
    assert done.returncode == 2
    assert [line.split(b",")[:2] for line in problems.read_bytes().splitlines()[1:]] == [[b"2", b"MJ_0.png"]]


@pytest.mark.slow
def test_a_table_finds_its_files_in_a_locale_of_ascii(tmp_path: Path) -> None:
    path = write_table(tmp_path / "Zürich" / "table.csv", table_rows(["Zürich.png", "café.png", "猫.png"]))
    done = tier("", "data", "check", str(path), **ASCII)
    assert done.returncode == 0, done.stderr
    assert b"No problems in 3 rows" in done.stdout
