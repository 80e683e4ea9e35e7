"""Killed commands lose nothing, and the next one gives the files of an undisturbed one.

`make crash` kills all commands many times; `campaign.py` describes it.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]

KILLS = 8


def test_what_killed_commands_leave_is_completed_by_the_next(tmp_path: Path) -> None:
    # In a process of its own, which forks before it starts threads.
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tier4k.tests.crash.campaign", "--cheap"),
            *("--state", str(tmp_path), "--seed", "0", "--kills", str(KILLS)),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    sys.stdout.write(ended.stdout)
    assert ended.returncode == 0, ended.stdout
    kills = re.search(r"^all +\d+ +(\d+)", ended.stdout, re.MULTILINE)
    assert kills and int(kills[1]) >= KILLS
