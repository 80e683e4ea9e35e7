"""Folders that fill up, that may not be written to, or that vanish, beside a running command.

A full disk is a file system in memory that is mounted over the project's folder with room for a few more
kilobytes: writing to it fails with ENOSPC as on a full disk. A read-only folder is the same file system
mounted read-only: it refuses root as well. Both need root and the right to mount.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOM = 2**19  # bytes; more than a command of a scenario writes in its first steps

KINDS = ("full disk", "read-only", "removed folder")


def may_mount(folder: Path) -> bool:
    """Return whether a file system can be mounted here."""
    if os.geteuid() or shutil.which("mount") is None:
        return False
    with mounted(folder) as is_mounted:
        return is_mounted


@contextmanager
def mounted(folder: Path) -> Iterator[bool]:
    """Mount an empty file system in memory at a folder, and yield whether that succeeded."""
    command = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)]
    is_mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, *options: str) -> bool:
    """Change the options of a mounted file system, and return whether the system permits it."""
    command = ["mount", "-o", ",".join(("remount", *options)), str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def leave_room(folder: Path, room: int) -> None:
    """Shrink a mounted file system to what it holds and some bytes."""
    state = os.statvfs(folder)
    used = (state.f_blocks - state.f_bfree) * state.f_frsize
    if not remount(folder, f"size={(used + room) // 1024}k"):
        raise OSError(f"{folder} cannot be remounted")
