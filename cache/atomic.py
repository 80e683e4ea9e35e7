"""Atomic files and folders: each exists whole or not at all.

An unfinished file lies in a temporary folder beside its final place, and its writer holds a lock on that
folder. The system releases the lock when the writer dies, however it dies. So the next writer can tell dead
leftovers from folders in use, and removes the dead ones.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tier4k.cache.errors import TierError

TEMPORARY_PREFIX = ".tier4k-tmp-"  # of folders that `remove_dead` may remove


def publish(
    path: Path,
    write: Callable[[Path], object],
    create_parent: bool = True,
) -> None:
    """Write a file or a folder under a temporary name, fsync it, then rename it to `path` in one step.

    An existing file of that name is replaced; an existing folder is replaced only where it is empty.

    Args:
        path: The final name.
        write: Called with the temporary path; must leave a closed file there, or a folder of closed files.
        create_parent: Whether the folder of `path` is made where it is missing.

    Raises:
        OSError: The system refuses (disk full, no permission, a folder with content); nothing is left.
    """
    if create_parent:
        path.parent.mkdir(parents=True, exist_ok=True)
    remove_dead(path.parent)
    with _temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        write(temporary)
        for written in (temporary, *temporary.rglob("*")):
            _fsync(written)
        os.replace(temporary, path)
    _fsync(path.parent)


def publish_text(path: Path, text: str) -> None:
    """Publish `text` in UTF-8."""
    publish(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def require_suffix(
    path: Path,
    suffixes: Sequence[str],
    error: type[TierError],
) -> None:
    """Refuse a file of an unknown format, before any work is done for it.

    Args:
        path: The file that is to be written or read.
        suffixes: The known suffixes, such as ".csv".
        error: Class of the error.

    Raises:
        TierError: An `error`, where the name does not end in one of `suffixes`.
    """
    if path.suffix in suffixes:
        return
    known = " or ".join(suffixes)
    raise error(f"the suffix {path.suffix!r} of {path} is not supported: pass a file that ends in {known}")


def remove_dead(folder: Path) -> None:
    """Remove the temporary folders of killed writers from `folder`; those of living writers stay."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        with _lock(leftover, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
            if held:
                shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
        with _lock(folder, fcntl.LOCK_EX):
            if not folder.exists():
                continue  # another writer took it for a dead one before it was locked
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def _lock(folder: Path, operation: int) -> Iterator[bool]:
    """Whether the lock was acquired; never on a file system without locks, where nothing is removed."""
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, operation)
        held = True
    except OSError:
        held = False
    try:
        yield held
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
