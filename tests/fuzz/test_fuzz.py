"""A damaged file of any kind ends a command with exit code 0, or with 2 and one paragraph.

`make fuzz` runs the commands on undamaged files, and then on new inputs; `campaign.py` describes it.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]

INPUTS = 150


def test_no_damaged_file_ends_a_command_in_any_other_way(tmp_path: Path) -> None:
    # In a process of its own, which forks before it starts threads.
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tier4k.tests.fuzz.campaign"),
            *("--state", str(tmp_path), "--first-seed", "0", "--inputs", str(INPUTS), "--unchecked"),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    sys.stdout.write(ended.stdout)
    assert ended.returncode == 0, ended.stdout
    assert f"{INPUTS} inputs" in ended.stdout
    succeeded = re.search(r"exit code 0: (\d+)", ended.stdout)
    assert succeeded and int(succeeded[1]) > INPUTS // 4, "most commands fail whatever the damage"
