"""The changes that docs/adding/ shows apply to this repository and pass the tests that the pages name."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "adding").glob("*.md"))
COPIED = (
    "__init__.py",
    "cli.py",
    "pyproject.toml",
    "cache",
    "extract",
    "heads",
    "tests",
    "docs",
    "benchmarks",
)
DIFF = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(
    r"^<!-- not run: tests/test_adding_pages\.py [^\n]*-->\n```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def run(
    command: list[str] | str,
    folder: Path,
    given: str | None = None,
) -> None:
    """Run a command in a copy of the repository; its `tier4k` is the copy."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(folder.parent), "PATH": programs, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        input=given,
        shell=isinstance(command, str),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-5000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_change_of_a_page_applies_and_passes_the_tests_that_the_page_names(
    page: Path, tmp_path: Path
) -> None:
    text = page.read_text(encoding="utf-8")
    copy = tmp_path / "tier4k"
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    (diff,) = DIFF.findall(text)
    run(["git", "apply", "-"], copy, given=diff)
    run("ruff check . && ruff format --check .", copy)
    (commands,) = COMMANDS.findall(text)
    for command in commands.splitlines():
        run(command, copy)
