"""Commands print what was recorded and read; see `tier4k.tests.screens.record`."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tier4k.tests.builders.commands import succeed
from tier4k.tests.screens.commands import (
    COMMANDS,
    FOLDER,
    RECORD,
    SLOW,
    WIDTHS,
    arguments_of,
    masked,
    prepare,
)


@pytest.fixture(scope="module")
def screen_project(fitted_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the user's folder with runs, as working directory."""
    folder = tmp_path_factory.mktemp("screens") / "project"
    shutil.copytree(fitted_project, folder)
    prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in SLOW])
@pytest.mark.usefixtures("screen_project")
def test_a_command_prints_what_was_recorded(
    name: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare(name, width, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SLOW)
@pytest.mark.usefixtures("screen_project")
def test_a_longer_command_prints_what_was_recorded(
    name: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare(name, width, monkeypatch)


def compare(
    name: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run a command in a terminal's width, and compare its output with the file, or write the file."""
    monkeypatch.setenv("COLUMNS", str(width))
    printed = masked(succeed(*arguments_of(name, width)))
    path = FOLDER / f"{name}-{width}.txt"
    if RECORD in os.environ:
        path.write_text(printed, encoding="utf-8")
    recorded = path.read_text(encoding="utf-8")
    assert printed == recorded, f"read the new screen, then run python -m tier4k.tests.screens.record: {path}"
