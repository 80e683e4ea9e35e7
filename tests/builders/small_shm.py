"""`tier` where /dev/shm is small."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 240  # seconds for a command that takes ten on an idle machine


def in_small_shm(size: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `tier` where /dev/shm has that size. A command that hangs is ended, and the test fails."""
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    mount = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a /dev/shm")
    command = [*mount, "timeout", str(PATIENCE), sys.executable, str(REPOSITORY / "cli.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)
