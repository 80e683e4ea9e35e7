"""Files and folders that are there whole or not at all.

What is being written lies in a temporary folder beside its final place, and its writer holds a lock on that folder. The system
takes the lock back when the writer dies, however it dies, so that the next writer knows which leftovers are dead and removes them.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tier4k.cache.errors import TierError

TEMPORARY_PREFIX = ".tier4k-tmp-"  # nobody else's folders have this name: the dead ones are removed


def publish(path: Path, write: Callable[[Path], object], make_folder: bool = True) -> None:
    """Write a file or a folder under a temporary name, fsync it, then rename it to `path` in one step.

    An existing file of that name is replaced; an existing folder that holds anything is not.

    Args:
        path: The final name.
        write: Called with the temporary path; must leave a closed file there, or a folder of closed files.
        make_folder: Whether the folder that `path` is in is made where there is none.

    Raises:
        OSError: The system refuses (disk full, no permission, the folder exists); nothing is left behind.
    """
    if make_folder:
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


def require_suffix(path: Path, suffixes: Sequence[str], error: type[TierError]) -> None:
    """Refuse a file whose format is not known, before any work is done for it.

    Raises:
        TierError: An `error`, where the name does not end in one of `suffixes`.
    """
    if path.suffix not in suffixes:
        raise error(
            f"{path} has the suffix {path.suffix!r}: give a file that ends in {' or '.join(suffixes)}"
        )


def remove_dead(folder: Path) -> None:
    """Remove what writers left in `folder` that were killed; what a living writer holds stays."""
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
                continue  # before it was locked, another writer took it for a dead one
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def _lock(folder: Path, how: int) -> Iterator[bool]:
    """Whether the lock was got; never where the file system has no locks, so that nothing is removed there."""
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, how)
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
