"""A damaged file of any kind ends a command with exit code 0, or with 2 and one paragraph.

`make fuzz MINUTES=40` goes through new inputs by hand; `campaign.py` describes it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]

INPUTS = 200


def test_no_damaged_file_ends_a_command_in_any_other_way(tmp_path: Path) -> None:
    # In a process of its own, which forks before it starts threads.
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tier4k.tests.fuzz.campaign"),
            *("--state", str(tmp_path), "--first-seed", "0", "--inputs", str(INPUTS)),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    sys.stdout.write(ended.stdout)
    assert ended.returncode == 0, ended.stdout
    assert f"{INPUTS} inputs" in ended.stdout
